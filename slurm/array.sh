#!/usr/bin/env bash
# An array of runs: one job for each number of --array, with a run directory of its own. Copy it, edit
# what stands between the lines, and submit it:
#
#   sbatch array.sh                                               # the runs that are set below
#   sbatch --array=1-100%10 --job-name=pi array.sh montecarlo     # or others: 10 at a time
#
# The run directories are JOBNAME/NUMBER. Submitted again under the same name each run goes on from its
# newest valid checkpoint, and those that are done end at once: so one submits all of them again until
# all are done.
# ---- edit from here ----------------------------------------------------------------------------
#SBATCH --job-name=array
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append     # all starts write into one file
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4    # ranks a node
#SBATCH --cpus-per-task=1      # threads a rank
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120    # so many seconds before the time limit comes the last checkpoint

set -euo pipefail
# export PATH="${HOME}/regroup/bin:${PATH}"   # if regroup is not on PATH
# export REGROUP_NETWORK=ib0                  # the interface by which the nodes reach each other
export REGROUP_GRACE="${REGROUP_GRACE:-20}"   # seconds that the last checkpoint may take
if (($# == 0)); then set -- montecarlo --samples 10000000000; fi
task="${SLURM_ARRAY_TASK_ID}"
set -- "$@" --seed "${task}"                  # what tells the runs apart
# strikes=(0 90 100 110 120)                  # or, say, a list of values, by the task's number
# set -- "$@" --strike "${strikes[task]}"
# ---- to here -----------------------------------------------------------------------------------

# Seconds until Slurm ends this task.
seconds_left() {
  local end
  end="$(scontrol show job "${SLURM_ARRAY_JOB_ID}_${task}" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')"
  end="$(date -d "${end:-unknown}" +%s)" && echo "$((end - $(date +%s)))"
}
left="$(seconds_left || echo 86400)" # when Slurm does not answer, there is time
if ((left < 2 * REGROUP_GRACE)); then
  echo "${left} s are left to this job: too few to begin. Submit it again with a longer --time." >&2
  exit 75
fi

# In the place of this script regroup gets Slurm's signals itself, and its exit status is the task's:
# 0 done, 1 done but for shards that were given up, 2 bad input, 3 not completed, 75 stopped on a
# checkpoint: submit it again.
mkdir -p "${SLURM_JOB_NAME}"
exec regroup run "$@" --dir "${SLURM_JOB_NAME}/${task}" --continue
