#!/bin/sh
# Installs the Debian packages that the sandbox's real parts come from; says what is missing and why before it acts.
set -eu

needed='
python3-venv|the environment that `make` builds in .venv
slurmctld|the controller that jobs are submitted to
slurmd|the node daemon; the node bundle is packed from it
slurmdbd|Slurm accounting
slurm-client|sbatch, srun, scontrol
slurm-wlm-mysql-plugin|slurmdbd to MariaDB
mariadb-server|slurmdbd keeps its records there
postgresql|the other database that the ledger may lie in
munge|authentication between the cluster hosts
openssh-server|sshd of instances and of the home exports
wireguard-go|the encrypted overlay, where the kernel has no WireGuard
wireguard-tools|the wg command
sshfs|mounts the home of a running job on its node
debootstrap|makes the root of the emulated instances
iproute2|links the emulated hosts
lua5.3|checks of the job_submit module
procps|process tables inside the hosts
'

missing=''
while IFS='|' read -r package why; do
  [ -n "$package" ] || continue
  if [ "$package" = python3-venv ] && python3 -c 'import ensurepip' 2>/dev/null; then continue; fi
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] && continue
  [ -n "$missing" ] || echo 'packages: missing here, installed now with apt-get:'
  printf '  %-24s %s\n' "$package" "$why"
  missing="$missing $package"
done <<EOF
$needed
EOF
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "packages: run as root, or install them yourself: apt-get install$missing" >&2
  exit 1
fi
# Installing must start no service of this machine: the sandbox starts its own, in its own namespaces.
policy=/usr/sbin/policy-rc.d
made=''
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # the list is meant to be split
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "packages: apt-get failed; its whole output is in $log" >&2
  exit 1
fi
rm -f "$log"
