#!/bin/sh
# The guest's first process: leaves the initial root, which nothing can pivot away from, mounts what a machine has, with
# cgroup v2 alone, and runs /weft/run. What it says to `cargo xtask vm` begins with "weft-vm:".
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
if [ "$1" != again ]; then
    /bin/busybox --install -s /bin
    mkdir /root-in-memory
    mount -t tmpfs -o size=90% root /root-in-memory
    for entry in /*; do
        case $entry in /root-in-memory|/proc|/sys|/dev) ;; *) cp -a "$entry" /root-in-memory/ ;; esac
    done
    exec switch_root /root-in-memory /init again
fi
mkdir -p /proc /sys /dev /run /tmp /var/lib /etc /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
for module in /modules/*; do insmod "$module" || echo "weft-vm: cannot load $module"; done
ip link set lo up
# A cgroup v2 with processes can give no controllers to its children.
mkdir /sys/fs/cgroup/init
echo $$ > /sys/fs/cgroup/init/cgroup.procs
echo "weft-vm: up $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"

export HOME=/root TMPDIR=/tmp RUST_BACKTRACE=1 WEFT_PROGRAMS=/weft WEFT_IMAGES=/weft
# What each process waits for, then the end of the step: it would take the others' time.
hung() {
    sleep 1800
    echo "weft-vm: step $1 hangs; the processes:"
    for process in /proc/[0-9]*; do
        [ -s $process/stack ] && tr '\0' ' ' < $process/cmdline && echo "($process)" && head -n 6 $process/stack
    done
    kill -9 $2
}
step() {
    name=$1
    shift
    echo "weft-vm: begin $name"
    "$@" < /dev/null 2>&1 &
    running=$!
    hung $name $running &
    watcher=$!
    wait $running
    code=$?
    kill $watcher
    [ $code = 0 ] || [ $name != pod ] || tail -n 40 /var/lib/weft/clusters/vm/log/* /var/lib/weft/clusters/vm/nodes/*/log/*
    echo "weft-vm: end $name $code $(cut -d' ' -f1 /proc/uptime) s"
}
. /weft/run
echo "weft-vm: done"
sync
poweroff -f
