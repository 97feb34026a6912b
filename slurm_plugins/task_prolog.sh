#!/bin/sh
# TaskProlog: tells MPI and NCCL by which interface a job's nodes in the cloud reach one another. Elsewhere it says
# nothing, without a fork. What the user or the site has set already stays.
#
# Slurm knows one TaskProlog a cluster. A site that has its own calls this one from it:
#     /etc/slurm/broker/task_prolog.sh

INTERFACE=broker0 # `broker slurm-conf --install` and each node's join write the overlay's interface here

[ "${SLURM_JOB_NUM_NODES:-1}" != 1 ] || exit 0
there=''
while read -r name _; do
    [ "$name" != "$INTERFACE:" ] || there=yes
done </proc/net/dev
[ -n "$there" ] || exit 0

[ -n "${NCCL_SOCKET_IFNAME:-}" ] || echo "export NCCL_SOCKET_IFNAME=$INTERFACE"
[ -n "${GLOO_SOCKET_IFNAME:-}" ] || echo "export GLOO_SOCKET_IFNAME=$INTERFACE"
[ -n "${TP_SOCKET_IFNAME:-}" ] || echo "export TP_SOCKET_IFNAME=$INTERFACE"
[ -n "${OMPI_MCA_btl_tcp_if_include:-}" ] || echo "export OMPI_MCA_btl_tcp_if_include=$INTERFACE"
[ -n "${OMPI_MCA_oob_tcp_if_include:-}" ] || echo "export OMPI_MCA_oob_tcp_if_include=$INTERFACE"
[ -n "${UCX_NET_DEVICES:-}" ] || echo "export UCX_NET_DEVICES=$INTERFACE"
[ -n "${FI_TCP_IFACE:-}" ] || echo "export FI_TCP_IFACE=$INTERFACE"
exit 0
