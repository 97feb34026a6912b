#!/bin/sh
# Makes the root of the emulated instances: a minimal Debian as a cloud would hand it out. It has no Slurm, munge, WireGuard or sshfs.
# usage: instance_image.sh FOLDER
set -eu
root=$1
debootstrap --variant=minbase \
  --include=openssh-server,iproute2,procps,sudo,ca-certificates,kmod,fuse3,passwd bookworm "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/etc/ssh/ssh_host_* "$root"/var/lib/apt/lists/*
chroot "$root" useradd --create-home --shell /bin/bash ubuntu
echo 'ubuntu ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/90-cloud"
chmod 0440 "$root/etc/sudoers.d/90-cloud"
mkdir -p "$root/.old" "$root/usr/local/bin"

cat >"$root/usr/local/bin/nvidia-smi" <<'EOF'
#!/bin/sh
# What the emulated instance says of its GPUs; /etc/emulated-gpu holds NAME, MIB and COUNT.
. /etc/emulated-gpu
query=''
units=' MiB'
for word in "$@"; do
  case $word in
  -L) query=list ;;
  --query-gpu=*) query=${word#--query-gpu=} ;;
  --format=*nounits*) units='' ;;
  esac
done
number=0
while [ "$number" -lt "$COUNT" ]; do
  uuid="GPU-$(printf '%08x' "$number")-e0de-4000-8000-000000000000"
  case $query in
  '') echo "| $number  $NAME   ${MIB}MiB |" ;;
  list) echo "GPU $number: $NAME (UUID: $uuid)" ;;
  *)
    line=''
    for field in $(echo "$query" | tr ',' ' '); do
      case $field in
      name | gpu_name) value=$NAME ;;
      memory.total) value=$MIB$units ;;
      index) value=$number ;;
      uuid | gpu_uuid) value=$uuid ;;
      driver_version) value=570.124.06 ;;
      *) echo "Field \"$field\" is not a valid field to query." && exit 2 ;;
      esac
      line="${line:+$line, }$value"
    done
    echo "$line"
    ;;
  esac
  number=$((number + 1))
done
EOF

# Power off ends the machine's first process, and with it the machine.
cat >"$root/usr/sbin/poweroff" <<'EOF'
#!/bin/sh
kill -TERM 1
EOF
chmod 755 "$root/usr/local/bin/nvidia-smi" "$root/usr/sbin/poweroff"
ln -sf poweroff "$root/usr/sbin/shutdown"

cat >"$root/sbin/emulated-init" <<'EOF'
#!/bin/sh
# First process of an emulated instance: sshd, then user-data, as on a real cloud, where sshd answers with a key of its own first.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
trap 'exit 0' TERM
mkdir -p /run/sshd /run/lock
ssh-keygen -A >/dev/null
[ -e /etc/emulated-no-ssh ] || /usr/sbin/sshd
if [ -s /var/lib/cloud/user-data ]; then
  case $(head -c 2 /var/lib/cloud/user-data) in
  '#!') chmod 700 /var/lib/cloud/user-data && /var/lib/cloud/user-data >>/var/log/cloud-init-output.log 2>&1 ;;
  *) echo 'user-data is no script: ignored by this image' >>/var/log/cloud-init-output.log ;;
  esac
fi
while :; do
  sleep 5 &
  wait $!
done
EOF
chmod 755 "$root/sbin/emulated-init"
