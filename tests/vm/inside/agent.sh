# Runs jobs one after another: a line with a job's number comes in on the second serial port, "NUMBER STATUS" goes out.
B=/run/guest/busybox
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts devpts /dev/pts
$B mount -t tmpfs shm /dev/shm
$B mount -t tracefs tracefs /sys/kernel/tracing
$B mount -t bpf bpf /sys/fs/bpf
$B mount -t fusectl fusectl /sys/fs/fuse/connections
$B ip link set lo up
$B stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 3>/dev/ttyS1
echo ready >&3
while read -r job; do
  if [ "$job" = poweroff ]; then
    $B reboot -f # QEMU ends instead: -no-reboot
  fi
  jobs=/run/guest/jobs/$job
  $B sh "$jobs/run" </dev/null >"$jobs/stdout" 2>"$jobs/stderr" 3>&-
  echo "$job $?" >&3
done
