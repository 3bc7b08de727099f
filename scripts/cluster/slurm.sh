#!/bin/bash
# A training on several machines of a Slurm cluster. It goes on with its run if it is submitted again, or preempted:
#   sbatch scripts/cluster/slurm.sh hull compute.runners=64 compute.learners=40 compute.learner_gpus=1
# RUN, on storage that the first machine sees, is where it trains; default: runs/<job's name> here.
#SBATCH --job-name=rlseq
#SBATCH --nodes=5
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@600
set -euo pipefail

run=${RUN:-$PWD/runs/$SLURM_JOB_NAME}
mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 -w "${machines[0]}" hostname --ip-address | awk '{print $1}'):6379

# A token of this job's: whoever else reaches the machines can do nothing.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token

srun --nodes=1 --ntasks=1 --overlap -w "${machines[0]}" \
    ray start --head --node-ip-address="${address%:*}" --port="${address##*:}" --include-dashboard=false --block &
sleep 20
if ((${#machines[@]} > 1)); then
    others=$(IFS=,; echo "${machines[*]:1}")
    srun --nodes=$((${#machines[@]} - 1)) --ntasks-per-node=1 --overlap -w "$others" \
        ray start --address="$address" --block &
fi

# The driver needs a node of the cluster on its machine; this script runs on the first one. It waits for the others.
export RAY_ADDRESS=$address
python -m rlseq.training.attempts 2 "$run" "$@" &
training=$!
trap 'kill -TERM $training' TERM # the time is nearly up: save and end
code=0
wait $training || code=$?
if kill -0 $training 2>/dev/null; then # the first wait was interrupted by the signal
    code=0
    wait $training || code=$?
fi
exit $code
