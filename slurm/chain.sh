#!/usr/bin/env bash
# A long run where jobs may not be requeued: a chain of jobs. Each puts its successor into the queue
# before it begins, to run when it has ended, however that comes about; once the run is done, the
# successor is cancelled. Copy it, edit what stands between the lines, and submit it:
#
#   sbatch chain.sh                                           # the job that is named below
#   sbatch --job-name=heat-1 chain.sh heat --grid 4000x4000   # or another one
#   scancel --name=chain                                      # ends the whole chain
#
# The name of the job is the run's directory. Submitted again under the same name the run goes on from
# its newest valid checkpoint, or, if it is done, ends at once. Further options belong into the lines
# below: those that are given to sbatch itself reach the first job alone.
# ---- edit from here ----------------------------------------------------------------------------
#SBATCH --job-name=chain
#SBATCH --output=%x-%j.out
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4    # ranks a node
#SBATCH --cpus-per-task=1      # threads a rank
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120    # so many seconds before the time limit the run is stopped
#SBATCH --no-requeue

set -euo pipefail
# export PATH="${HOME}/regroup/bin:${PATH}"   # if regroup is not on PATH
# export REGROUP_NETWORK=ib0                  # the interface by which the nodes reach each other
export REGROUP_GRACE="${REGROUP_GRACE:-20}"   # seconds that the last checkpoint may take
if (($# == 0)); then set -- montecarlo --samples 1000000000000; fi
links_max=50                                  # jobs in the chain at most,
vain_links_max=3                              # and in a row that led nowhere
# ---- to here -----------------------------------------------------------------------------------

run="${SLURM_JOB_NAME}"
say() { echo "$(date '+%F %T') job ${SLURM_JOB_ID}, link ${link} of the chain: $*" >&2; }
link="${CHAIN_LINK:-1}"
first="${CHAIN_FIRST:-${SLURM_JOB_ID}}"

# Slurm tells this script alone: USR1 before the time limit, TERM when the job is cancelled.
told="" pid=""
trap 'told=USR1; kill -USR1 "${pid}" 2>/dev/null || true' USR1
trap 'told=TERM; kill -TERM "${pid}" 2>/dev/null || true' TERM

# Seconds until Slurm ends the job.
seconds_left() {
  local end
  end="$(scontrol show job "${SLURM_JOB_ID}" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')"
  end="$(date -d "${end:-unknown}" +%s)" && echo "$((end - $(date +%s)))"
}

# How far the run has come; in RUN.starts there is a line of it for each link.
come_to() { grep -E '"(shards_done|step)"' "${run}/status.json" 2>/dev/null | tr -d ' \n' || true; }
echo "${first} $(come_to)" >>"${run}.starts"
vain_links="$(uniq -c "${run}.starts" | tail -n 1 | awk '{ print $1 - 1 }')"
if ((vain_links >= vain_links_max)); then
  say "gives up: the last ${vain_links} links led nowhere"
  exit 3
fi

successor=""
if ((link < links_max)); then
  export CHAIN_LINK=$((link + 1)) CHAIN_FIRST="${first}"
  successor="$(sbatch --parsable --dependency="afterany:${SLURM_JOB_ID}" --job-name="${run}" "$0" "$@")"
fi

# Nodes that Slurm has lost may still be at the run; it is theirs, then, until they end.
in_use() { regroup inspect "${run}" --format json 2>/dev/null | grep '"in_use": true' >/dev/null; }
for ((waited = 0; waited < 600; waited += 5)); do
  if [[ -n "${told}" ]] || ! in_use; then break; fi
  sleep 5
done

left="$(seconds_left || echo 86400)" # when Slurm does not answer, there is time
status=75
if [[ -n "${told}" ]] || ((left < 2 * REGROUP_GRACE)); then
  say "with ${left} s left the run does not begin"
else
  regroup run "$@" --dir "${run}" --continue &
  pid=$!
  if [[ -n "${told}" ]]; then kill "-${told}" "${pid}"; fi # it came just before
  while kill -0 "${pid}" 2>/dev/null; do wait "${pid}" || true; done # a signal ends a wait, not the run
  status=0
  wait "${pid}" || status=$?
fi

case "${status}" in
  0 | 1 | 2) # done; 1: but for shards that were given up; 2: bad input
    if [[ -n "${successor}" ]]; then scancel "${successor%%;*}"; fi
    rm -f "${run}.starts"
    ;;
  *) say "the run ended with status ${status}; ${successor:+job ${successor} goes on}" ;;
esac
exit "${status}"
