#!/bin/sh
# Makes the logs in this directory again, with the servers and the strace of this machine. As root:
#   sh make_logs.sh SCRATCH_DIRECTORY
# The four logs with a number in front were made elsewhere and are not made here. Counts in README.md are those of the
# logs that lie here; a new strace or kernel may send other requests.
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$1
mkdir -p "$lab/src" "$lab/upper" "$lab/scratch" "$lab/mnt" "$lab/mnt2" && cd "$lab" || exit 1
printf 'hello world\n' > src/hello.txt
head -c 3000 /dev/urandom > src/rnd.bin
: > "src/$(printf 'bad\377name\n\001')"
: > 'src/quote"back\slash'
mksquashfs src image.squashfs -quiet -no-progress -noappend > /dev/null
printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' > sftp.sh && chmod +x sftp.sh
gcc -O2 /usr/share/doc/libfuse3-dev/examples/passthrough_ll.c -o passthrough_ll $(pkg-config fuse3 --cflags --libs)

CALLS='read,readv,?preadv,write,writev,?pwritev,splice,tee,vmsplice'
BEST="-f -q --timestamps=unix,ns --syscall-times=ns -yy -e trace=$CALLS -e status=!detached"
OLD="-f -ttt -T -yy -e trace=$CALLS"

client() { # MOUNT
    (
        cd "$1" || exit 1
        stat hello.txt; cat hello.txt; cat rnd.bin; stat 'nope"\'; ls -l
        [ -e big.bin ] && cat big.bin
        if touch new; then cp rnd.bin copy.bin; mv copy.bin moved.bin; rm new moved.bin; fi
    ) > client.log 2>&1
}
await() { # MOUNT
    for _ in $(seq 100); do mountpoint -q "$1" && return; sleep 0.05; done
}
launch() { # LOG STRACE-OPTIONS -- SERVER...
    log=$here/$1; shift; options=
    while [ "$1" != -- ]; do options="$options $1"; shift; done; shift
    rm -f "$log" "$log".[0-9]*
    timeout 30 strace $options -o "$log" "$@" 2> server.log &
    await mnt; client mnt; timeout 5 umount mnt; wait
}
attach() { # LOG SIGNAL STRACE-OPTIONS
    log=$here/$1; signal=$2; shift 2
    bindfs -f --multithreaded src mnt 2> server.log & server=$!
    await mnt; ls mnt > /dev/null
    strace "$@" -p $server -o "$log" 2> strace.log & tracer=$!
    until grep -q "TracerPid:.$tracer" /proc/$server/status; do sleep 0.02; done
    client mnt
    (for _ in 1 2 3 4 5 6 7 8; do ls -l mnt > /dev/null 2>&1; done) & busy=$!
    sleep 0.03; kill -"$signal" $tracer; wait $tracer $busy; timeout 5 umount mnt; wait
}

launch bindfs-best.strace $BEST -s 4200 -- bindfs -f src mnt
launch bindfs-cut-at-64.strace $BEST -s 64 -- bindfs -f src mnt
launch bindfs-hex-strings.strace $OLD -xx -s 4200 -- bindfs -f src mnt
launch bindfs-everything-tt.strace -f -tt -T -y -- bindfs -f src mnt
launch bindfs-threads-t.strace -f -t -y -s 600 -e trace=read,writev -- bindfs -f --multithreaded src mnt
launch bindfs-threads-no-y-no-time.strace -f -e trace=read,writev,close,openat -- bindfs -f --multithreaded src mnt
launch bindfs-one-thread-no-pid.strace -ttt -y -s 600 -e trace=read,writev -- bindfs -f src mnt
launch bindfs-relative.strace -f -r -T -y -s 600 -e trace=read,writev -- bindfs -f src mnt
launch bindfs-comm-number-pointer.strace -f -Y -i -n -ttt -T -y -s 600 -e trace=read,writev -- bindfs -f src mnt
launch bindfs-dump-s0.strace -f -tt -T -y -s 0 -e trace=read,writev -e read=4 -e write=4 -- bindfs -f src mnt
launch bindfs-dump-no-y.strace -f -e trace=read,writev -e read=4 -e write=4 -- bindfs -f src mnt
launch bindfs-ff.strace -ff -ttt -T -y -s 4200 -e trace=$CALLS -- bindfs -f --multithreaded src mnt
launch bindfs-ff-no-time.strace -ff -y -s 4200 -e trace=$CALLS -- bindfs -f --multithreaded src mnt
head -c 12000 /dev/urandom > src/big.bin # libfuse splices nothing shorter than two pages
launch fuse-overlayfs-splice.strace $BEST -s 512 -- fuse-overlayfs -f -o lowerdir=src,upperdir="$lab/upper",workdir="$lab/scratch" mnt
launch fuse-overlayfs-splice-no-y.strace -f -ttt -T -s 512 -e trace=$CALLS -- fuse-overlayfs -f -o lowerdir=src,upperdir="$lab/upper",workdir="$lab/scratch" mnt
launch fuse-overlayfs-splice-hidden.strace $BEST -s 512 -P /dev/fuse -- fuse-overlayfs -f -o lowerdir=src,upperdir="$lab/upper",workdir="$lab/scratch" mnt
rm src/big.bin
launch squashfuse.strace $BEST -s 512 -- squashfuse -f image.squashfs mnt
launch sshfs.strace $OLD -x -s 128 -- sshfs -f -o ssh_command="$lab/sftp.sh" host:"$lab/src" mnt
launch passthrough_ll-clone_fd.strace $BEST -s 512 -- ./passthrough_ll -f -o clone_fd,cache=never,source="$lab/src" mnt
attach attach-detached.strace INT $OLD -s 300
attach attach-best.strace INT $BEST -s 300
attach attach-glued.strace INT $OLD -q -s 300 -e status=!unfinished


log=$here/two-servers-one-strace.strace
bindfs -f src mnt & one=$!
bindfs -f src mnt2 & two=$!
await mnt; await mnt2; ls -l mnt > /dev/null; ls -l mnt > /dev/null
strace $OLD -s 512 -p $one -p $two -o "$log" 2> strace.log & tracer=$!
until grep -q "TracerPid:.$tracer" /proc/$two/status; do sleep 0.02; done
client mnt & other=$!; client mnt2; wait $other
umount mnt; umount mnt2; wait

log=$here/bindfs-killed.strace
strace -D -f -ttt -T -yy -s 512 -e trace=$CALLS -o "$log" bindfs -f src mnt & server=$!
await mnt; ls mnt > /dev/null; kill -9 $server; wait; sleep 0.2; timeout 5 umount -l mnt
