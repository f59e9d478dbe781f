#!/bin/bash
# A run of two processes under SLURM that is preempted, comes again, and ends with the bits of the unbroken run.
#
#     bash docs/examples/clusters/slurm_trial.sh [FOLDER]    # as root, with Debian's slurm-wlm and munge
cd "$(dirname "$0")/../../.." || exit 2
folder=$(mkdir -p "${1:-/tmp/slurm_trial}" && cd "${1:-/tmp/slurm_trial}" && pwd)
source docs/examples/clusters/slurm_node.sh start
trap 'source docs/examples/clusters/slurm_node.sh stop' EXIT
until sinfo --noheader --states=idle | grep -q spare; do sleep 0.5; done

echo "== the unbroken run, two processes without SLURM"
.venv/bin/python launch.py --processes=2 --platform=cpu --config=configs/digits_cnn.py --workdir="$folder/whole" \
  --config.train="{'batch_size': 16, 'steps': 600, 'log_every': 20, 'eval_every': 200, 'evaluate_train': False}" \
  --config.model="{'name': 'MLP', 'widths': (8,)}" | tail -1

echo "== the same as a job of two tasks"
export JAXREC=$PWD CONFIG=$folder/whole/config.json WORKDIR=$folder/run FLAGS=--platform=cpu
job=$(sbatch --parsable --partition=spare --nodes=1 --ntasks=2 --ntasks-per-node=2 --output="$folder/log" \
  docs/examples/clusters/train.sbatch)
until grep -qs '"step": 200' "$folder/run/metrics.jsonl"; do sleep 0.1; done
echo "job $job is at $(tail -1 "$folder/run/metrics.jsonl" | cut -c1-14)}"

echo "== a job that has priority preempts it"
sbatch --parsable --wait --partition=urgent --ntasks=2 --output=/dev/null --wrap="sleep 5"
until [ -f "$folder/run/result.json" ]; do sleep 0.5; done
until [ -z "$(squeue --noheader)" ]; do sleep 0.5; done
grep -E "terminated|Resuming|The run" "$folder/log"
sed 's/ NodeList.*//' "$SLURM_NODE/log/slurmctld" | grep -oE "(preempted|Requeuing|requeue|_job_complete).*" | tail -6

echo "== compared: $(PYTHONPATH=.:benchmarks .venv/bin/python -c "
import kills, pathlib, sys
found = kills.differences(*map(pathlib.Path, sys.argv[1:]))
print(found or 'equal to the bit')" "$folder/whole" "$folder/run")"
