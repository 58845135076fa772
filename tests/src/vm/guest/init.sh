#!/bin/sh
# The first process of the virtual machine: runs the suites and says on the second serial line what came of them.
export PATH=/bin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $folder; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1

# Suites ask whether they are here.
export POINTSMAN_GUEST=1

say() { echo "{ \"type\": \"machine\", $1 }" >&3; }

# Modules are not loaded on demand for a user namespace, which is where suites are.
for module in $(cat /etc/modules); do modprobe -q $module || say "\"event\": \"lacks\", \"module\": \"$module\""; done
for module in $(cat /etc/modules-optional); do modprobe -q $module; done
ip link set lo up
# What one can expect of a node; the default for user namespaces is small.
sysctl -q -w net.core.wmem_max=4194304 net.core.rmem_max=4194304
say "\"event\": \"booted\", \"kernel\": \"$(uname -r)\", \"seconds\": $(cut -d' ' -f1 /proc/uptime)"

run() {
    number=$1 suite=$2; shift 2
    say "\"event\": \"begins\", \"run\": $number"
    /opt/$suite "$@" >&3 2>/dev/console
    say "\"event\": \"ended\", \"run\": $number, \"status\": $?"
}
. /etc/runs
say "\"event\": \"done\""
sync
poweroff -f
