#!/bin/bash
# A throw-away SLURM: one controller and two nodes, all on this machine, without systemd and cgroups.
#   slurm_cluster.sh start DIR | stop DIR        (as root)
set -eu
ACTION=$1; D=$(realpath -m "$2"); H=$(hostname -s); export SLURM_CONF=$D/slurm.conf
case $ACTION in
start)
  mkdir -p "$D"/{state,spool/n1,spool/n2,log,run}; chmod 755 "$D"
  install -d -o munge -g munge -m 755 /run/munge
  if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then runuser -u munge -- /usr/sbin/munged; fi
  cat > "$SLURM_CONF" <<CONF
ClusterName=ci
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmctldPort=16817
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=300
PropagateResourceLimits=NONE
NodeName=n[1-2] NodeHostname=$H NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=ci Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld -f "$SLURM_CONF" -c
  slurmd -f "$SLURM_CONF" -N n1
  slurmd -f "$SLURM_CONF" -N n2
  for _ in $(seq 50); do
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && exit 0; sleep 0.2
  done
  tail -n 20 "$D"/log/*; exit 1;;
stop)
  for name in slurmctld slurmd.n1 slurmd.n2; do
    if [ -f "$D/run/$name.pid" ]; then kill "$(cat "$D/run/$name.pid")" || true; fi
  done;;
esac
