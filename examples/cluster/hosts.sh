#!/usr/bin/env bash
# One training run on several hosts, without a scheduler. Run the same command on each host; see docs/cluster.md.
#
#   SELF=10.0.0.2 examples/cluster/hosts.sh 10.0.0.1,10.0.0.2 DATA --arch paper-bn --out runs/mine
#
# The hosts are names or addresses by which all hosts reach each other; the first is the rendezvous host.
# SELF       name of this host in the list; default: its hostname
# PROCESSES  processes on each host; default: one for each GPU. Hosts without GPUs: 1
# NODES      hosts that take part; default: all of the list. MIN:MAX, such as 1:4: a lost host is not waited for
# LAST_CALL  with MIN:MAX: seconds that the first MIN hosts wait for more; default: 30
# PORT       port of the rendezvous host; default: 29400
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: [SELF=HOST] [PROCESSES=N] hosts.sh HOST,HOST,... DATA [options of alexnet train]" >&2
  exit 2
fi
IFS=, read -ra hosts <<<"$1"
shift
self=${SELF:-$(hostname)}
case " ${hosts[*]} " in
  *" $self "*) ;;
  *) echo "$self is not in the list ${hosts[*]}; set SELF to the name of this host in it" >&2; exit 2 ;;
esac
is_host=$([ "$self" = "${hosts[0]}" ] && echo 1 || echo 0)

# A separate store for each start: with the shared one, a launcher that joins later hangs (docs/cluster.md).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}
exec torchrun --nnodes "${NODES:-${#hosts[@]}}" --nproc-per-node "${PROCESSES:-gpu}" \
  --rdzv-backend c10d --rdzv-id alexnet --rdzv-endpoint "${hosts[0]}:${PORT:-29400}" --local-addr "$self" \
  --rdzv-conf "is_host=$is_host,join_timeout=1800,read_timeout=1800,last_call_timeout=${LAST_CALL:-30}" \
  --max-restarts 3 --shutdown-timeout 25 \
  -m alexnet train "$@" --resume
