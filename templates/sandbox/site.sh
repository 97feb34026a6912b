#!/bin/sh
# Makes a site host of the sandbox what its name says; run inside it, before its daemons. usage: site.sh CHECKOUT
set -eu
checkout=$1
add_user() { # NAME UID HOME SHELL
  grep -q "^$1:" /etc/group || echo "$1:x:$2:" >>/etc/group
  grep -q "^$1:" /etc/passwd || echo "$1:x:$2:$2::$3:$4" >>/etc/passwd
  grep -q "^$1:" /etc/shadow || echo "$1:*:19000:0:99999:7:::" >>/etc/shadow
}
add_user alice 1001 /home/alice /bin/bash
add_user bob 1002 /home/bob /bin/bash
add_user broker 64801 /var/lib/broker /usr/sbin/nologin
add_user broker-net 64802 /nonexistent /usr/sbin/nologin
sed -i 's/^broker:x:64801:.*/broker:x:64801:broker-net/' /etc/group
for user in alice bob; do
  mkdir -p "/home/$user"
  chown "$user:$user" "/home/$user"
  chmod 700 "/home/$user"
done
ln -sf "$checkout/.venv/bin/broker" /usr/local/bin/broker
mkdir -p /run/munge /run/sshd /run/wireguard /run/mysqld /var/log/munge /var/lib/munge /var/spool/slurmd /var/spool/slurmctld
install -m 400 -o munge -g munge /etc/slurm/.munge.key /etc/munge/munge.key
chown munge:munge /run/munge /var/log/munge /var/lib/munge /etc/munge
chmod 755 /run/munge
chown slurm:slurm /var/spool/slurmctld
[ "$(hostname)" = ctl ] || exit 0
chown mysql:mysql /run/mysqld
if grep -q '^postgres:' /etc/passwd; then install -d -o postgres -g postgres /run/postgresql; fi
chown -R slurm:slurm /etc/slurm/slurmdbd.conf && chmod 600 /etc/slurm/slurmdbd.conf
# The daemon reads the munge key to hand it to trusted nodes: by a copy of its own, as a real site does with its group.
install -m 400 -o broker -g broker /etc/slurm/.munge.key /etc/broker/munge.key
chown -R root:broker /etc/broker
chown broker:broker /etc/broker/munge.key
chmod 750 /etc/broker
chmod 640 /etc/broker/*.key /etc/broker/broker.toml
chmod 400 /etc/broker/munge.key
chown broker:broker /run/broker /var/lib/broker
chmod 1775 /run/broker # broker-net makes its socket there, and may not touch the others
chmod 750 /var/lib/broker
mkdir -p /var/spool/broker/intents /var/spool/broker/jobs /var/lib/broker-exports
chown broker:broker /var/spool/broker
chown slurm:broker /var/spool/broker/intents /var/spool/broker/jobs
chmod 2770 /var/spool/broker/intents /var/spool/broker/jobs
[ -p /var/spool/broker/knock ] || mkfifo /var/spool/broker/knock
chown broker:slurm /var/spool/broker/knock
chmod 620 /var/spool/broker/knock
chown broker-net: /run/wireguard
umask 077
wg genkey >/run/hub.key
[ -s /etc/ssh/broker-export.key ] || ssh-keygen -q -t ed25519 -N '' -C broker-export -f /etc/ssh/broker-export.key
install -m 644 /etc/ssh/broker-export.key.pub /etc/broker/export-sshd.pub
