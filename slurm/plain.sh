#!/usr/bin/env bash
# A plain run over some nodes. Copy it, edit what stands between the lines, and submit it:
#
#   sbatch plain.sh                                           # the job that is named below
#   sbatch --job-name=heat-1 plain.sh heat --grid 4000x4000   # or another one
#
# The name of the job is the run's directory. Submitted again under the same name it goes on from the
# newest valid checkpoint, or, if the run is done, ends at once: it is always right to submit it again.
# ---- edit from here ----------------------------------------------------------------------------
#SBATCH --job-name=plain
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append     # all starts write into one file
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4    # ranks a node
#SBATCH --cpus-per-task=1      # threads a rank
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120    # so many seconds before the time limit comes the last checkpoint

set -euo pipefail
# export PATH="${HOME}/regroup/bin:${PATH}"   # if regroup is not on PATH
# export REGROUP_NETWORK=ib0                  # the interface by which the nodes reach each other
export REGROUP_GRACE="${REGROUP_GRACE:-20}"   # seconds that the last checkpoint may take
if (($# == 0)); then set -- montecarlo --samples 10000000000; fi
# ---- to here -----------------------------------------------------------------------------------

# Seconds until Slurm ends the job.
seconds_left() {
  local end
  end="$(scontrol show job "${SLURM_JOB_ID}" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')"
  end="$(date -d "${end:-unknown}" +%s)" && echo "$((end - $(date +%s)))"
}
left="$(seconds_left || echo 86400)" # when Slurm does not answer, there is time
if ((left < 2 * REGROUP_GRACE)); then
  echo "${left} s are left to this job: too few to begin. Submit it again with a longer --time." >&2
  exit 75
fi

# In the place of this script regroup gets Slurm's signals itself, and its exit status is the job's:
# 0 done, 1 done but for shards that were given up, 2 bad input, 3 not completed, 75 stopped on a
# checkpoint: submit it again.
exec regroup run "$@" --dir "${SLURM_JOB_NAME}" --continue
