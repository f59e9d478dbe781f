#!/bin/bash
# A run of two processes that Open MPI starts, on this machine or, with --host=one,two, on several.
#
#     CONFIG=configs/digits_cnn.py WORKDIR=runs/mpi bash docs/examples/clusters/mpirun.sh
cd "$(dirname "$0")/../../.." || exit 2
root=$([ "$(id -u)" = 0 ] && echo --allow-run-as-root)
exec mpirun -n "${PROCESSES:-2}" $root --oversubscribe --bind-to none \
  -x TTY_COMPATIBLE=0 --mca odls_base_sigkill_timeout 10 \
  .venv/bin/python launch.py --cluster --config="${CONFIG:-configs/digits_cnn.py}" --workdir="${WORKDIR:-runs/mpi}" "$@"
