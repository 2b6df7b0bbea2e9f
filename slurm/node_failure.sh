#!/usr/bin/env bash
# A run that survives the loss of nodes. The ranks of the other nodes go on where they are, or are started
# again there; when too few nodes are left, the job goes back into the queue under the same job id, and
# the run goes on from its newest checkpoint on other nodes. So it does at the time limit. Copy it, edit
# what stands between the lines, and submit it:
#
#   sbatch node_failure.sh                                          # the job that is named below
#   sbatch --job-name=heat-1 node_failure.sh heat --grid 4000x4000  # or another one
#
# The name of the job is the run's directory. Submitted again under the same name it goes on from the
# newest valid checkpoint, or, if the run is done, ends at once.
# ---- edit from here ----------------------------------------------------------------------------
#SBATCH --job-name=node_failure
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append     # all starts write into one file
#SBATCH --nodes=3
#SBATCH --no-kill              # a node that is lost does not end the job,
#SBATCH --ntasks-per-node=4    # ranks a node
#SBATCH --cpus-per-task=1      # threads a rank
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120    # so many seconds before the time limit the run is stopped
#SBATCH --requeue

set -euo pipefail
export SLURM_NO_KILL=set                      # nor what regroup starts by srun
# export PATH="${HOME}/regroup/bin:${PATH}"   # if regroup is not on PATH
# export REGROUP_NETWORK=ib0                  # the interface by which the nodes reach each other
export REGROUP_GRACE="${REGROUP_GRACE:-20}"   # seconds that the last checkpoint may take
export REGROUP_MIN_NODES="${REGROUP_MIN_NODES:-2}" # with fewer nodes left the job is requeued
if (($# == 0)); then set -- montecarlo --samples 1000000000000; fi
starts_max=100                                # more often the job does not begin,
vain_starts_max=3                             # nor after so many in a row that led nowhere
# ---- to here -----------------------------------------------------------------------------------

run="${SLURM_JOB_NAME}"
say() { echo "$(date '+%F %T') job ${SLURM_JOB_ID}: $*" >&2; }

# Slurm tells this script alone: USR1 before the time limit; TERM when the job is cancelled or
# preempted, and then it is not for us to put it back into the queue.
told="" pid=""
trap 'told=USR1; kill -USR1 "${pid}" 2>/dev/null || true' USR1
trap 'told=TERM; kill -TERM "${pid}" 2>/dev/null || true' TERM

requeue() {
  say "$1; it goes on in the next start of this job"
  scontrol requeue "${SLURM_JOB_ID}" && exit 75
  say "Slurm does not take the job back: submit it again, and it goes on"
  exit 75
}

# Seconds until Slurm ends the job.
seconds_left() {
  local end
  end="$(scontrol show job "${SLURM_JOB_ID}" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')"
  end="$(date -d "${end:-unknown}" +%s)" && echo "$((end - $(date +%s)))"
}

# How far the run has come; in RUN.starts there is a line of it for each start.
come_to() { grep -E '"(shards_done|step)"' "${run}/status.json" 2>/dev/null | tr -d ' \n' || true; }
echo "${SLURM_JOB_ID} $(come_to)" >>"${run}.starts"
vain_starts="$(uniq -c "${run}.starts" | tail -n 1 | awk '{ print $1 - 1 }')"
if ((vain_starts >= vain_starts_max || ${SLURM_RESTART_COUNT:-0} >= starts_max)); then
  say "gives up after ${SLURM_RESTART_COUNT:-0} restarts, the last ${vain_starts} of which led nowhere"
  exit 3
fi

# Nodes that Slurm has lost may still be at the run; it is theirs, then, until they end.
in_use() { regroup inspect "${run}" --format json 2>/dev/null | grep '"in_use": true' >/dev/null; }
for ((waited = 0; waited < 600; waited += 5)); do
  if [[ -n "${told}" ]] || ! in_use; then break; fi
  sleep 5
done

# When the node of this very script is lost, --no-kill leaves the job behind with nothing to run. So on
# the next node something watches out for that.
# shellcheck disable=SC2016  # its variables are that shell's
watch='while sleep 15; do
  nodes="$(scontrol show job "${SLURM_JOB_ID}" | sed -n "s/^ *NodeList=//p")"
  [[ -n "${nodes}" ]] || continue
  scontrol show hostnames "${nodes}" | grep -x "$1" || scontrol requeue "${SLURM_JOB_ID}"
done'
if ((SLURM_JOB_NUM_NODES > 1)); then
  srun --relative=1 --nodes=1 --ntasks=1 --overlap bash -c "${watch}" watch "${SLURMD_NODENAME}" &>/dev/null &
fi

left="$(seconds_left || echo 86400)" # when Slurm does not answer, there is time
if [[ "${told}" == USR1 ]] || ((left < 2 * REGROUP_GRACE)); then
  requeue "with ${left} s left the run does not begin"
fi
if [[ "${told}" == TERM ]]; then exit 75; fi
regroup run "$@" --dir "${run}" --continue &
pid=$!
if [[ -n "${told}" ]]; then kill "-${told}" "${pid}"; fi # it came just before
while kill -0 "${pid}" 2>/dev/null; do wait "${pid}" || true; done # a signal ends a wait, not the run
status=0
wait "${pid}" || status=$?

case "${status}" in
  0 | 1 | 2) rm -f "${run}.starts" ;; # done; 1: but for shards that were given up; 2: bad input
  *) if [[ "${told}" != TERM ]]; then requeue "the run ended with status ${status}"; fi ;;
esac
exit "${status}"
