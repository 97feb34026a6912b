#!/bin/bash
# slurm_rig.sh DIR ADDRESS... : a real slurmctld in private namespaces, for tests of Slurm's edge. It lives until its
# standard input ends, and everything in it ends with it. DIR/etc/slurm.conf is the site's; the addresses are the nodes'.
set -eu
if [ "${IN_RIG:-}" != 1 ]; then
  IN_RIG=1 exec unshare --net --pid --fork --kill-child --mount --mount-proc --uts --ipc "$0" "$@"
fi
D=$1
shift
if [ -n "${SLURM_PREFIX:-}" ]; then # another release than the host's
  mount --bind "$SLURM_PREFIX/bin" /usr/local/bin
  mount --bind "$SLURM_PREFIX/sbin" /usr/local/sbin
fi
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname ctl
ip link set lo up
ip link add br0 type bridge # slurmctld refuses to start with loopback alone
for address; do ip addr add "$address/16" dev br0; done
ip link set br0 up

mkdir -p "$D"/{state,log,munge,slurmd,dev}
mount --bind "$D/etc/hosts" /etc/hosts
mount -t tmpfs none /run
# A /dev of our own, with GPUs that gres.conf can name.
mount -t tmpfs none "$D/dev"
for name in null zero random urandom tty; do touch "$D/dev/$name" && mount --bind "/dev/$name" "$D/dev/$name"; done
for name in nvidia0 nvidia1; do mknod "$D/dev/$name" c 1 3; done
mkdir "$D/dev/shm" && mount -t tmpfs none "$D/dev/shm"
mount --move "$D/dev" /dev

mkdir /run/munge
dd if=/dev/urandom of="$D/munge/key" bs=32 count=1 status=none
chmod 400 "$D/munge/key"
chown -R munge: "$D/munge" /run/munge
setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged --key-file="$D/munge/key" \
  --log-file="$D/munge/log" --seed-file="$D/munge/seed" --pid-file=/run/munge/munged.pid

chown slurm: "$D/state" "$D/log"
export SLURM_CONF="$D/etc/slurm.conf"
slurmctld -f "$SLURM_CONF"
for _ in {1..100}; do
  scontrol ping 2>/dev/null | grep -q UP && break
  sleep 0.1
done
slurmd -b -N local-1 -f "$SLURM_CONF"
echo ready
cat >/dev/null
