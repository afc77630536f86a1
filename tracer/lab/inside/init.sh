#!/bin/busybox sh
# The guest's only program: insert modules, run the scenario, power off. The host reads the console, and answers a step.
/bin/busybox --install -s /bin
export PATH=/bin:/scenario/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
stty -F /dev/ttyS0 -echo

for module in /modules/*; do
  insmod "$module" || echo "guest: cannot insert $module"
done

# words of a scenario; descriptor 3 is the console, for a command may read its stdin to the end
step() {
  echo "FUSEWIRE-STEP $1"
  read -r answer <&3
}
mount_at() {
  mkdir -p "$1"
  mount -t virtiofs "$TAG" "$1"
}

exec 3</dev/ttyS0
(
  set -e
  . /scenario/script
) </dev/null
status=$?
if [ $status = 0 ]; then
  step SCENARIO-DONE
else
  step "SCENARIO-FAILED $status"
fi
reboot -n -f # QEMU ends instead: -no-reboot; and no sync(2) that nobody asked for
