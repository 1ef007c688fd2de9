package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	maxConns      = 128 // open connections; more wait in the kernel's queue
	maxBody       = 64 << 10
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	serveTimeout  = 60 * time.Second // one request with its answer
	idleTimeout   = 60 * time.Second
	probeTimeout  = time.Second // is somebody listening there already?

	// maxPath is what fits into sockaddr_un with its closing NUL.
	maxPath = 107
	mode    = 0o660
)

// Socket says where to listen and who else may ask.
type Socket struct {
	Path     string
	Group    string      // name or number; empty: root and the agent's own user only
	ErrorLog *log.Logger // for failing connections; nil: the standard logger
}

// Server is a handler served on a unix socket.
type Server struct {
	http *http.Server
	done chan error
}

// Start listens on s.Path and serves h there, on its own goroutine, until Stop.
// It creates the directory, and removes a socket that nobody answers on; a
// path that somebody does answer on, or that is no socket, is an error.
func Start(s Socket, h http.Handler) (*Server, error) {
	l, gid, err := listen(s)
	if err != nil {
		return nil, err
	}
	srv := &Server{
		http: &http.Server{
			Handler:           http.MaxBytesHandler(admit(os.Getuid(), gid, h), maxBody),
			MaxHeaderBytes:    maxHeader,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       serveTimeout,
			WriteTimeout:      serveTimeout,
			IdleTimeout:       idleTimeout,
			ErrorLog:          s.ErrorLog,
			ConnContext:       withPeer,
		},
		done: make(chan error, 1),
	}
	go func() { srv.done <- srv.http.Serve(bound(l, maxConns)) }()
	return srv, nil
}

// Stop takes no more requests, lets the running ones end until ctx does, cuts
// off the others, and returns when the serving goroutine has; the socket is
// removed. That somebody's request took too long is not an error of Stop's.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if e := <-s.done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("stop control socket: %w", err)
	}
	return nil
}

// listen returns the listening socket and the group that may ask, or -1.
func listen(s Socket) (net.Listener, int, error) {
	if len(s.Path) > maxPath {
		return nil, 0, fmt.Errorf("listen on %s: the path has %d bytes, a socket's may have %d", s.Path, len(s.Path), maxPath)
	}
	gid := -1
	if s.Group != "" {
		var err error
		if gid, err = lookupGroup(s.Group); err != nil {
			return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	if err := removeStale(s.Path); err != nil {
		return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	l, err := net.Listen("unix", s.Path)
	if err != nil {
		return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, cause(err))
	}
	if err := os.Chmod(s.Path, mode); err != nil {
		l.Close()
		return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	if gid >= 0 {
		if err := os.Chown(s.Path, -1, gid); err != nil {
			l.Close()
			return nil, 0, fmt.Errorf("listen on %s: %w", s.Path, err)
		}
	}
	return l, gid, nil
}

// removeStale removes what a killed agent left, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket")
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		c.Close()
		return errors.New("another agent answers there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ask whether it is in use: %w", cause(err))
	}
	return os.Remove(path)
}

func lookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		var e error
		if g, e = user.LookupGroupId(name); e != nil {
			return 0, fmt.Errorf("no such group %q", name)
		}
	}
	return strconv.Atoi(g.Gid)
}
