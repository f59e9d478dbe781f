#!/bin/bash
# The same command on each host of a TPU pod slice; JAX finds the others. Not run anywhere by us, for want of one.
#
#     TPU=my-slice ZONE=us-central2-b WORKDIR=/mnt/shared/resnet50 bash docs/examples/clusters/tpu_pod.sh
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="cd jaxrec && .venv/bin/python launch.py \
  --cluster --config=${CONFIG:-configs/imagenet_resnet50.py} --workdir=$WORKDIR"
