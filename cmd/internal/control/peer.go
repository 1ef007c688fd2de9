package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// peer is the process at the other end of the socket when it connected.
type peer struct {
	pid, uid, gid int
	err           error // the kernel did not say
}

type peerKey struct{}

// withPeer is an http.Server's ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if b, ok := c.(*boundedConn); ok {
		c = b.Conn
	}
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: fmt.Errorf("%T is no unix socket", c)}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var p peer
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			p.err = err
			return
		}
		p.pid, p.uid, p.gid = int(cred.Pid), int(cred.Uid), int(cred.Gid)
	})
	if err != nil {
		p.err = err
	}
	return p
}

// admit lets root, own and the members of group gid (-1: none) through to h.
func admit(own, gid int, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(peer)
		switch {
		case !ok || p.err != nil:
			fail(w, &Error{Code: http.StatusForbidden, Message: "the peer's user is not known", Hint: "use the unix socket"})
		case p.uid == 0, p.uid == own, gid >= 0 && p.inGroup(gid):
			h.ServeHTTP(w, r)
		default:
			fail(w, &Error{
				Code:    http.StatusForbidden,
				Message: fmt.Sprintf("uid %d may not control this node", p.uid),
				Hint:    "be root, the agent's user, or a member of [control] group",
			})
		}
	})
}

// inGroup asks for the primary group of the process and all groups of its user.
func (p peer) inGroup(gid int) bool {
	if p.gid == gid {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(p.uid))
	if err != nil {
		return false
	}
	gids, err := u.GroupIds()
	return err == nil && slices.Contains(gids, strconv.Itoa(gid))
}
