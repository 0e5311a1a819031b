#!/usr/bin/env bash
# One run on several hosts, without a scheduler. Start it on each of them with the same words; docs/cluster.md explains.
#
#   SELF=10.0.0.2 examples/cluster/hosts.sh 10.0.0.1,10.0.0.2 DATA --arch paper-bn --out runs/mine
#
# The hosts are names or addresses by which all reach each other; the first is where they meet.
# SELF       this host among them; its own name unless said
# PROCESSES  on each host; as many as there are GPUs unless said. Hosts without GPUs: 1
# PORT       where the first host listens; 29400 unless said
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
  *) echo "$self is none of ${hosts[*]}; say which of them this host is: SELF=HOST" >&2; exit 2 ;;
esac
is_host=$([ "$self" = "${hosts[0]}" ] && echo 1 || echo 0)

# A store for each start. The one that launchers share tells a launcher that joins later nothing, which then hangs.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}
exec torchrun --nnodes "${#hosts[@]}" --nproc-per-node "${PROCESSES:-gpu}" \
  --rdzv-backend c10d --rdzv-id alexnet --rdzv-endpoint "${hosts[0]}:${PORT:-29400}" --local-addr "$self" \
  --rdzv-conf "is_host=$is_host,join_timeout=1800,read_timeout=1800" \
  --max-restarts 3 --shutdown-timeout 25 \
  -m alexnet train "$@" --resume
