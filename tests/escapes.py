"""Attempts to get out of a REPL's process. Each sets `hit` to what it got when it succeeds.

Names that they find: H: a folder with private files and sockets; P: the parent; V: another process; PORT, TAG: of
sockets that listen; FD, LIFE, SRC: descriptors of the process. Numbers of system calls are those of x86-64.
"""
from __future__ import annotations

PREPARED = """\
import gc as GC
import sys

import _socket

os, C = sys.modules["os"], sys.modules["ctypes"]
L = C.CDLL(None, use_errno=True)
hit = None


def sysc(*arguments):
    result = L.syscall(*[C.c_long(x) if isinstance(x, int) else x for x in arguments])
    if result < 0:
        raise OSError(C.get_errno(), os.strerror(C.get_errno()))
    return result

"""

ATTEMPTS = {
    "read /etc/passwd": "hit=open('/etc/passwd').read()[:20]",
    "read ~/.ssh key": "hit=open(H+'/home/.ssh/id_rsa').read()",
    "openat via syscall": "hit=os.read(sysc(257,-100,C.c_char_p((H+'/home/.ssh/id_rsa').encode()),0,0),20)",
    "openat2":
        "import struct; hit=os.read(sysc(437,-100,C.c_char_p((H+'/home/.ssh/id_rsa').encode()),"
        "C.c_char_p(struct.pack('QQQ',0,0,0)),24),20)",
    "stat a secret path": "hit=os.stat(H+'/home/.ssh/id_rsa')",
    "statx":
        "b=C.create_string_buffer(256); sysc(332,-100,C.c_char_p((H+'/home/.ssh/id_rsa').encode()),0,"
        "0xfff,b); hit=b.raw[:8]",
    "readlink": "hit=os.readlink('/proc/self/exe')",
    "getcwd / chdir": "os.chdir(H); hit=os.getcwd()",
    "create empty file": "os.close(os.open(H+'/open/new2',0o101)); hit=1",
    "append to ~/.bashrc": "f=open(H+'/home/.bashrc','a'); f.write('evil'); f.close(); hit=1",
    "unlink": "os.unlink(H+'/open/victim2'); hit=1",
    "rename": "os.rename(H+'/open/victim3',H+'/open/v3'); hit=1",
    "symlink": "os.symlink('/etc/passwd',H+'/open/l'); hit=1",
    "hard link": "os.link(H+'/home/victim',H+'/open/hl'); hit=1",
    "chmod": "os.chmod(H+'/home/victim',0o777); hit=1",
    "utime": "os.utime(H+'/home/victim',(1,1)); hit=1",
    "/dev/shm file": "f=open('/dev/shm/rlmrepl-esc','w'); f.write('x'*9); f.close(); hit=1",
    "fill the disk": "f=open(H+'/open/big','wb'); [f.write(b'x'*(1<<20)) for _ in range(50)]; f.close(); hit=1",
    "/proc/PARENT/environ": "hit=open(f'/proc/{P}/environ').read()[:40]",
    "/proc/PARENT/mem": "os.open(f'/proc/{P}/mem',2); hit=1",
    "reopen context rw via /proc/self/fd": "hit=os.open(f'/proc/self/fd/{FD}',2)",
    "write to the context fd": "hit=os.write(FD,b'evil')",
    "ftruncate the context": "os.ftruncate(FD,0); hit=1",
    "fchmod the context": "os.fchmod(FD,0o777); hit=1",
    "fsetxattr": "os.setxattr(FD,b'user.x',b'1'); hit=1",
    "flock the context": "import fcntl; fcntl.flock(FD,fcntl.LOCK_EX); hit=1",
    "mmap shared write":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(1024),3,1,FD,C.c_long(0)); hit=a if a "
        "and a!=2**64-1 else None",
    "open_by_handle_at":
        "b=C.create_string_buffer(b'\\x80\\0\\0\\0',140); m=C.c_int(); sysc(303,-100,"
        "C.c_char_p(H.encode()),b,C.byref(m),0); hit=b.raw[:4]",
    "TCP connect": "s=_socket.socket(2,1); s.connect(('127.0.0.1',PORT)); hit=1",
    "TCP listen": "s=_socket.socket(2,1); s.bind(('127.0.0.1',0)); s.listen(1); hit=s.getsockname()",
    "unix path socket": "s=_socket.socket(1,1); s.connect(H+'/open/sock'); hit=1",
    "unix abstract socket": "s=_socket.socket(1,1); s.connect(b'\\0rlmrepl'+TAG); hit=1",
    "vsock": "hit=_socket.socket(40,1,0)",
    "socketpair + sendto": "a,b=_socket.socketpair(1,2); a.sendto(b'x',H+'/open/dgram'); hit=1",
    "fork":
        "p=os.fork()\n"
        "if p==0: os._exit(0)\n"
        "os.waitpid(p,0); hit=1",
    "vfork by syscall":
        "r=sysc(58)\n"
        "if r==0: os._exit(0)\n"
        "hit=r",
    "clone3":
        "import struct; r=sysc(435,C.c_char_p(struct.pack('8Q',0,0,0,0,17,0,0,0)),64)\n"
        "if r==0: os._exit(0)\n"
        "hit=r",
    "fork bomb (20)":
        "n=0\n"
        "for _ in range(20):\n"
        "  p=os.fork()\n"
        "  if p==0: sys.modules['time'].sleep(.2); os._exit(0)\n"
        "  n+=1\n"
        "hit=n",
    "os.system": "hit=(os.system('true')==0)",
    "exec": "os.execv('/bin/true',['true'])",
    "kill the parent (0)": "os.kill(P,0); hit=1",
    "kill a stranger": "os.kill(V,0); hit=1",
    "tkill a stranger": "sysc(200,V,0); hit=1",
    "pidfd": "hit=sysc(434,V,0)",
    "F_SETOWN signals": "import struct; fcntl_=72; sysc(fcntl_,SRC,8,V); hit=1",
    "ptrace the parent": "sysc(101,0x4206,P,0,0); hit=1",
    "renice the parent": "sysc(141,0,P,5); hit=1",
    "pin the parent's cpu": "b=C.create_string_buffer(b'\\1'+b'\\0'*7); sysc(203,P,8,b); hit=1",
    "undo PDEATHSIG": "sysc(157,1,0,0,0,0); hit=1",
    "raise own limits":
        "import struct; b=C.create_string_buffer(16); sysc(302,0,1,0,b); lim=struct.unpack('QQ',"
        "b.raw); sysc(302,0,1,C.c_char_p(struct.pack('QQ',lim[1],lim[1])),0); hit=lim if lim[1]>0 "
        "else None",
    "new mount namespace": "sysc(272,0x10020000); hit=1",
    "mount": "sysc(165,C.c_char_p(b'x'),C.c_char_p((H+'/open').encode()),C.c_char_p(b'tmpfs'),0,0); hit=1",
    "setuid 0": "sysc(105,0); hit=os.getuid()==0 and U!=0",
    "setns": "sysc(308,FD,0); hit=1",
    "perf_event_open": "b=C.create_string_buffer(b'\\1\\0\\0\\0\\x70\\0\\0\\0',112); hit=sysc(298,b,0,-1,-1,0)",
    "add_key": "hit=sysc(248,C.c_char_p(b'user'),C.c_char_p(b'rlm'),C.c_char_p(b'x'),1,-3)",
    "userfaultfd": "hit=sysc(323,1)",
    "SysV shm": "hit=sysc(29,0,4096,0o1600)",
    "mq_open": "hit=sysc(240,C.c_char_p(b'rlmrepl'),0o102,0o600,0)",
    "personality": "hit=sysc(135,0xffffffff)+1",
    "landlock again / seccomp off": "sysc(317,0,0,0); hit=1",
    "TIOCSTI": "b=C.c_char(b'x'); sysc(16,SRC,0x5412,C.byref(b)); hit=1",
    "x32 syscall number": "hit=sysc(0x40000000|39)",
    "int 0x80 (32-bit) getpid":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(4096),7,0x62,-1,C.c_long(0))\n"
        "C.memmove(a,bytes.fromhex('b814000000cd80c3'),8); r=C.CFUNCTYPE(C.c_int)(a)(); hit=r if r>0 "
        "else None",
    "machine code: socket":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(4096),7,0x62,-1,C.c_long(0))\n"
        "c=bytes.fromhex('b829000000bf02000000be0100000031d20f05c3'); C.memmove(a,c,len(c)); "
        "r=C.CFUNCTYPE(C.c_int)(a)(); hit=r if r>=0 else None",
    "environment has secrets": "hit=[k for k in os.environ if k not in ('LC_ALL','LC_CTYPE')]",
    "import numpy/requests": "import requests; hit=1",
    "subprocess module": "import subprocess; hit=subprocess.run(['true']).returncode==0",
    "multiprocessing": "import multiprocessing as m; p=m.Process(target=print); p.start(); hit=1",
    "socket module": "import socket; hit=socket.create_connection(('127.0.0.1',PORT),1)",
    "tempfile": "import tempfile; hit=tempfile.NamedTemporaryFile().name",
    "sqlite file": "import sqlite3; sqlite3.connect(H+'/open/x.db').execute('create table t(a)'); hit=1",
    "4 GB shared mmap":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(4<<30),3,0x21,-1,C.c_long(0)); hit=a if "
        "a and a!=2**64-1 else None",
    "list of 300M": "x=[0]*(300<<20); hit=len(x)",
    "2000 descriptors": "n=[os.dup(FD) for _ in range(2000)]; hit=len(n)",
    "outlive the parent: close the life line": "os.close(LIFE); hit=1",
    "another process's clock": "sys.modules['time'].clock_gettime(~P << 3 | 2); hit=1",
    "who is there: affinity": "hit=os.sched_getaffinity(P)",
    "poison memory":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(4096),3,0x22,-1,C.c_long(0))\n"
        "hit=L.madvise(C.c_void_p(a),C.c_size_t(4096),101)==0",
    "a file through an import": "sys.path.append(H); import evilmod; hit=1",
    "a file through linecache": "hit=sys.modules['linecache'].getlines(H+'/home/victim')",
    "a descriptor through SCM_RIGHTS": "a,b=_socket.socketpair(); hit=1",
    "timer that outlives the cell": "import signal; signal.setitimer(signal.ITIMER_REAL,9); hit=1",
    "inotify": "hit=sysc(294,0)",
    "eventfd, timerfd, signalfd": "hit=sysc(290,0,0)",
    "epoll": "hit=sysc(291,0)",
    "pipe": "hit=os.pipe()",
    "splice the context away": "hit=sysc(275,FD,0,1,0,9,0)",
    "memfd_secret": "hit=sysc(447,0)",
    "sched_setscheduler": "b=C.create_string_buffer(b'\\1\\0\\0\\0'); sysc(144,0,1,b); hit=1",
    "context of another REPL":
        "m=[x for x in GC.get_objects() if type(x).__name__=='Link'][0]\n"
        "hit=m.ask('read',context='private',file=0,offset=0,n=99)",
    "a descriptor that was not given":
        "hit=[n for n in range(3, 4096) if L.lseek(n,0,1)>=0 or C.get_errno()!=9]\n"
        "hit=[n for n in hit if n not in (FD,SRC,LIFE,SRC+1,SRC-1) and n!=[x for x in GC.get_objects() "
        "if type(x).__name__=='Link'][0].sink]",
    "make a mapping of the context writable":
        "L.mmap.restype=C.c_void_p; a=L.mmap(None,C.c_size_t(4096),1,1,FD,C.c_long(0))\n"
        "hit=[n for n in (L.mprotect(C.c_void_p(a),C.c_size_t(4096),3),L.madvise(C.c_void_p(a),"
        "C.c_size_t(4096),9)) if n==0]",
    "a key in what was inherited":
        "k=bytes([115,107,45,115,101,99]); e=C.POINTER(C.c_char_p).in_dll(L,'environ'); n=0; hit=[]\n"
        "while e and e[n]: hit+=[e[n]]*(k in e[n]); n+=1\n"
        "hit+=[type(o) for o in GC.get_objects() if isinstance(o,dict) and any(isinstance(v,str) and "
        "v.encode('utf-8','replace').startswith(k) for v in list(o.values()))]",
    "spawn a program": "hit=os.posix_spawn('/bin/true',['true'],{})",
    "run an open descriptor": "sysc(322,FD,C.c_char_p(b''),0,0,0x1000); hit=1",
    "a thread of another process": "hit=sysc(234,P,P,0)+1",
    "queue a signal": "b=C.create_string_buffer(128); sysc(129,V,10,b); hit=1",
    "compare with another process": "hit=sysc(312,os.getpid(),P,2,0,0)+1",
    "take a descriptor of the parent": "hit=sysc(438,P,0,0)",
    "memory of another by process_madvise": "hit=sysc(440,P,0,0,4,0)+1",
    "how the machine is": "b=C.create_string_buffer(128); sysc(99,b); hit=b.raw[:8]",
    "who we are": "hit=(os.getuid(), os.getgroups()) if L.getuid() < 2**31 and L.getuid() >= 0 else None",
    "raise the limit of memory": "import resource; resource.setrlimit(9,(-1,-1)); x=[0]*(300<<20); hit=len(x)",
    "host name and kernel": "hit=os.uname()",
    "hostname by sysctl files": "hit=os.listdir('/proc/sys')",
}
