#!/bin/sh
# PrologSlurmctld: holds a job of an elastic partition until the broker says that its nodes are ready and hold the
# user's home. Jobs of other partitions pass at once, without a fork.
#
# Slurm knows one PrologSlurmctld a cluster. A site that has its own keeps it and calls this one as its last line:
#     exec /etc/slurm/broker/prolog_slurmctld.sh
#
# Exit 0: the job may start. Anything else: Slurm requeues it, since it must not start without its home.

SPOOL=/var/spool/broker # `broker slurm-conf --install` writes the site's own SPOOL, PARTITIONS and LIMIT here
PARTITIONS=''           # the elastic partitions, separated by spaces
LIMIT=1800              # seconds; shorter than ResumeTimeout and jobs on slow machines are requeued for nothing
CONF=/etc/slurm/slurm.conf # for scontrol: Slurm does not tell its own programs
PAUSE=30                # seconds before a failure is told; longer only keeps the job's nodes longer

case " $PARTITIONS " in
*" ${SLURM_JOB_PARTITION:-?} "*) ;;
*) exit 0 ;;
esac
case ${SLURM_JOB_ID:-?} in
*[!0-9]*)
    echo "broker: SLURM_JOB_ID is not a number: this program is for slurmctld to start, as PrologSlurmctld" >&2
    exit 1
    ;;
esac

# Slurm sets no PATH here; our own umask lets the broker in by its group and nobody else.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 007

# The limit is a parent of ours, not a child: two processes a waiting job, not three. --foreground keeps it in our
# process group, where slurmctld's signals reach us both.
if [ "${1:-}" != under-limit ]; then
    exec timeout --foreground "$LIMIT" "$0" under-limit
fi

job=$SPOOL/jobs/$SLURM_JOB_ID.job
fifo=$SPOOL/jobs/$SLURM_JOB_ID.fifo
hidden=$SPOOL/jobs/.tmp-$SLURM_JOB_ID

# Not the files of a later run of the same job: one that lost its slurmctld may still wait here. When slurmctld ends us,
# at scancel and at its own end, it does so by SIGKILL: then the broker finds a FIFO without a reader, and removes both.
clean() {
    trap '' HUP INT TERM # `timeout` hands on what the whole group got already: the second one must not stop us here
    [ ! "$fifo" -ef /proc/self/fd/3 ] || rm -f "$job" "$fifo" "$hidden"
}
trap clean EXIT
trap 'clean; exit 1' HUP INT TERM

# Slurm tries a job whose prolog failed again at once: without the pause a full disk would make it do so all day long.
fail() {
    echo "broker: job $SLURM_JOB_ID: $1: Slurm requeues it" >&2
    sleep "$PAUSE"
    exit 1
}

rm -f "$job" "$fifo" # of an earlier run of this job that was killed outright
mkfifo -m 660 "$fifo" || fail "$fifo cannot be made"
# Held open by ourselves from here on: whoever sees the .job file finds a reader.
exec 3<>"$fifo"

{
    printf 'job=%s\nuser=%s\nuid=%s\n' "$SLURM_JOB_ID" "${SLURM_JOB_USER:-}" "${SLURM_JOB_UID:-}"
    printf 'nodes=%s\npartition=%s\n' "${SLURM_JOB_NODELIST:-}" "$SLURM_JOB_PARTITION"
} >"$hidden" && mv -f "$hidden" "$job" || fail "$job cannot be written"

# Not `>knock`: that would wait for a reader, or leave a plain file where the broker's FIFO belongs.
printf k | dd of="$SPOOL/knock" oflag=nonblock conv=nocreat,notrunc status=none 2>/dev/null

read -r word rest <&3
[ "$word" != start ] || exit 0
# Slurm has requeued the job, lets us wait on, and starts it nowhere before we end. Not 0: were it about to start again
# in this moment, that would let it go without its home.
[ "$word" != gone ] || exit 1
if [ "$word" = end ]; then
    # srun or salloc, and nothing to wait for. Only SlurmUser, which we are, may write to a user's terminal.
    SLURM_CONF=$CONF
    export SLURM_CONF
    scontrol notify "$SLURM_JOB_ID" "$rest"
    scancel "$SLURM_JOB_ID"
    exit 1
fi
echo "broker: job $SLURM_JOB_ID was not let go: Slurm requeues it" >&2
exit 1
