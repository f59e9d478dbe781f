#!/bin/bash
# A SLURM of one node on this machine, to try out what a cluster will do: Debian's slurm-wlm and munge, as root.
#
#     source docs/examples/clusters/slurm_node.sh start    # then sbatch, squeue, scontrol, ...
#     source docs/examples/clusters/slurm_node.sh stop
#
# Its files lie in $SLURM_NODE, /tmp/slurm_node by default. Its daemons listen on 127.0.0.1 alone.
export SLURM_NODE=${SLURM_NODE:-/tmp/slurm_node}
export SLURM_CONF=$SLURM_NODE/slurm.conf

start_slurm_node() {
  mkdir -p "$SLURM_NODE"/{state,spool,log,munge}
  chmod 755 "$SLURM_NODE" && chmod 700 "$SLURM_NODE/munge"
  [ -f "$SLURM_NODE/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom > "$SLURM_NODE/munge/key")
  munged --force --key-file="$SLURM_NODE/munge/key" --socket="$SLURM_NODE/munge.socket" \
    --pid-file="$SLURM_NODE/munge/pid" --log-file="$SLURM_NODE/munge/log" --seed-file="$SLURM_NODE/munge/seed"
  cat > "$SLURM_CONF" <<END
ClusterName=trial
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$SLURM_NODE/munge.socket
CryptoType=crypto/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$SLURM_NODE/state
SlurmdSpoolDir=$SLURM_NODE/spool
SlurmctldPidFile=$SLURM_NODE/slurmctld.pid
SlurmdPidFile=$SLURM_NODE/slurmd.pid
SlurmctldLogFile=$SLURM_NODE/log/slurmctld
SlurmdLogFile=$SLURM_NODE/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
KillWait=30
JobRequeue=1
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=spare Nodes=localhost PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE State=UP
END
  slurmctld && slurmd -N localhost
}

stop_slurm_node() {
  for daemon in slurmd slurmctld munge/pid; do
    local file=$SLURM_NODE/${daemon}; [ "$daemon" = munge/pid ] || file=$file.pid
    [ -f "$file" ] && kill "$(cat "$file")"
  done
}

case "$1" in
  start) start_slurm_node ;;
  stop) stop_slurm_node ;;
  *) echo "source ${BASH_SOURCE[0]} start | stop" ;;
esac
