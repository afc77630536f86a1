#!/bin/busybox sh
# The guest's first program: insert modules, make this machine's root ours, hand over to agent.sh.
# What is written to the root stays in memory: an overlay hides nothing of it, wherever the checkout lies.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

for module in /modules/*; do
  insmod "$module" || echo "guest: cannot insert $module"
done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /host || echo "guest: no 9p root"
mount -t tmpfs upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/host,upperdir=/upper/data,workdir=/upper/work overlay /root || echo "guest: no overlay"

for directory in dev proc sys; do
  mount --move /$directory /root/$directory
done
mount -t tmpfs -o mode=0755 run /root/run
mkdir /root/run/guest
# without a cache: both sides see at once what the other wrote
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /root/run/guest || echo "guest: no share"
exec switch_root /root /run/guest/busybox sh /run/guest/agent.sh
