package probe

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
)

// A Probe looks once. Its error says in one line what is not as it should be.
type Probe func(ctx context.Context) error

// plain is the cause of an error without what the check's own definition
// says: paths, addresses and URLs.
func plain(err error) error {
	var (
		path    *fs.PathError
		call    *os.SyscallError
		address *net.OpError
		web     *url.Error
		name    *net.DNSError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &name):
		return errors.New(name.Err)
	case errors.As(err, &web):
		return plain(web.Err)
	case errors.As(err, &address):
		return plain(address.Err)
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &call):
		return call.Err
	}
	return err
}
