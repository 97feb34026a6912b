#!/bin/bash
# machine.sh ROOT WORK: a rented machine for the tests: a host of its own over a copy-on-write root, run by unshare(1)
# with mount, UTS and PID namespaces, in a network namespace that has its public address already.
# WORK/user-data runs at first boot, WORK/authorized_keys is ubuntu's, WORK/gpus is what nvidia-smi prints.
set -eu
root=$1 work=$2
mount --make-rprivate /
mkdir -p "$work/upper" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --rbind /sys sys # slurmd 22.05 looks for the cgroup mounts
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir -p dev/net dev/pts dev/shm run/sshd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/fuse c 10 229
mknod -m 666 dev/net/tun c 10 200
hostname ip-203-0-113-10
printf '127.0.0.1 localhost\n' >etc/hosts
# The uid that a user of the site has, too: the join must keep the two apart.
sed -i 's/^ubuntu:x:[0-9]*:[0-9]*:/ubuntu:x:1001:1001:/' etc/passwd
sed -i 's/^ubuntu:x:[0-9]*:/ubuntu:x:1001:/' etc/group
mkdir -p -m 700 home/ubuntu/.ssh
cp "$work/authorized_keys" home/ubuntu/.ssh/
chown -R 1001:1001 home/ubuntu
cat >usr/local/bin/nvidia-smi <<G
#!/bin/sh
cat <<T
$(cat "$work/gpus")
T
G
cp "$work/user-data" root/user-data
cat >root/init <<'I'
trap 'exit 0' TERM
sh /root/user-data
/usr/sbin/sshd -D -e 2>/var/log/sshd.log &
while :; do wait; sleep 0.2; done
I
mkdir -p old
pivot_root . old
umount -l /old
exec /bin/sh /root/init </dev/null
