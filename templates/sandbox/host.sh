#!/bin/sh
# First process of a sandbox host, in namespaces of its own: makes the root, then becomes the host.
# usage: host.sh KIND LOWER SCRATCH NAME      KIND: instance | site
# environment for `site`: BINDS, a list of SOURCE:TARGET, one a line; for `instance`: SEED, a folder with its files
# standard input: one line once the network is there
set -eu
kind=$1 lower=$2 scratch=$3 name=$4
hostname "$name"
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
root=$scratch/root
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/.old"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys" # slurmd 22.05 looks for the cgroup mounts
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229 net/tun:10:200; do
  rest=${device#*:}
  mknod -m 666 "$root/dev/${device%%:*}" c "${rest%:*}" "${rest#*:}"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$root/dev/${stream#*:}"; done

case $kind in
instance)
  owner=$(stat -c %u:%g "$root/home/ubuntu")
  cp -R "$SEED/." "$root/"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
  echo "$name" >"$root/etc/hostname"
  . "$SEED/etc/emulated-gpu"
  number=0
  while [ "$number" -lt "$COUNT" ]; do
    mknod -m 666 "$root/dev/nvidia$number" c 1 3
    number=$((number + 1))
  done
  chown -R "$owner" "$root/home/ubuntu"
  chmod 700 "$root/home/ubuntu" "$root/home/ubuntu/.ssh"
  first=/sbin/emulated-init
  ;;
site)
  printf '%s\n' "$BINDS" | while IFS=: read -r source target; do
    [ -n "$source" ] || continue
    # Its parents may be closed to ordinary users (a checkout below /root): here they are opened, in this root only.
    parent=$root
    for part in $(dirname "$target" | tr '/' ' '); do
      parent=$parent/$part
      mkdir -p "$parent" && chmod a+rx "$parent"
    done
    if [ -d "$source" ]; then mkdir -p "$root$target"; else touch "$root$target"; fi
    mount --rbind "$source" "$root$target"
  done
  first=/bin/sh
  ;;
esac
read -r network
cd "$root"
pivot_root . .old
if [ "$kind" = site ]; then
  exec chroot . /bin/sh -c 'umount -l /.old; trap "exit 0" TERM; while :; do sleep 5 & wait $!; done'
fi
exec chroot . /bin/sh -c 'umount -l /.old; exec /sbin/emulated-init' >>".old$SEED.console" 2>&1
