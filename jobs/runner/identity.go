package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// getentBound bounds a look-up that leaves the machine (LDAP, say). It delays
// only the run that needs it.
const getentBound = 5 * time.Second

// An identity is who a run runs as.
type identity struct {
	uid, gid   uint32
	groups     []uint32 // supplementary
	name, home string
	change     bool // it is not who the agent is already
}

// lookupIdentity finds user and group, each by name or number, at the moment
// of the run: accounts come and go while an agent lives.
func lookupIdentity(userName, groupName string) (*identity, error) {
	who := &identity{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), home: "/"}
	if userName == "" {
		if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
			who.name, who.home = u.Username, u.HomeDir
		}
		if groupName == "" {
			return who, nil
		}
		who.groups = ownGroups()
	} else {
		u, err := lookupUser(userName)
		if err != nil {
			return nil, err
		}
		who.uid, who.gid, who.name, who.home = u.uid, u.gid, u.name, u.home
		if who.groups, err = lookupGroups(u); err != nil {
			return nil, err
		}
	}
	if groupName != "" {
		gid, err := lookupGroup(groupName)
		if err != nil {
			return nil, err
		}
		who.gid = gid
	}
	// An agent without privileges may say who it is, but not become it again:
	// setgroups is refused even if it would change nothing.
	who.change = os.Geteuid() == 0 || who.uid != uint32(os.Geteuid()) || who.gid != uint32(os.Getegid())
	return who, nil
}

func ownGroups() []uint32 {
	gids, _ := os.Getgroups()
	groups := make([]uint32, 0, len(gids))
	for _, g := range gids {
		groups = append(groups, uint32(g))
	}
	return groups
}

type account struct {
	name, home string
	uid, gid   uint32
}

// lookupUser asks the files first, then getent(1), which asks whatever the
// host has configured: a static binary does not know how.
func lookupUser(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil && numeric(name) {
		u, err = user.LookupId(name)
	}
	if err == nil {
		return makeAccount(u.Username, u.Uid, u.Gid, u.HomeDir)
	}
	f, err := getent("passwd", name)
	if errors.Is(err, errUnknown) || err == nil && len(f) < 6 {
		return account{}, fmt.Errorf("user %s: does not exist", name)
	}
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	return makeAccount(f[0], f[2], f[3], f[5])
}

func makeAccount(name, uid, gid, home string) (account, error) {
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	return account{name: name, home: home, uid: uint32(u), gid: uint32(g)}, nil
}

// lookupGroups are the supplementary groups, as initgroups(3) finds them.
func lookupGroups(a account) ([]uint32, error) {
	var ids []string
	if u, err := user.Lookup(a.name); err == nil {
		if ids, err = u.GroupIds(); err != nil {
			return nil, fmt.Errorf("groups of %s: %w", a.name, err)
		}
	} else if f, err := getent("initgroups", a.name); err == nil && len(f) > 0 {
		ids = strings.Fields(strings.TrimPrefix(f[0], a.name))
	}
	groups := []uint32{a.gid}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(groups, uint32(g)) {
			groups = append(groups, uint32(g))
		}
	}
	return groups, nil
}

func lookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil && numeric(name) {
		g, err = user.LookupGroupId(name)
	}
	gid := ""
	if err == nil {
		gid = g.Gid
	} else if f, err := getent("group", name); err == nil && len(f) > 2 {
		gid = f[2]
	} else if err == nil || errors.Is(err, errUnknown) {
		return 0, fmt.Errorf("group %s: does not exist", name)
	} else {
		return 0, fmt.Errorf("group %s: %w", name, err)
	}
	n, err := strconv.ParseUint(gid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("group %s: %w", name, err)
	}
	return uint32(n), nil
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

var errUnknown = errors.New("unknown")

// getent returns the fields of the one line for key, or errUnknown.
func getent(database, key string) ([]string, error) {
	program, err := exec.LookPath("getent")
	if err != nil || strings.HasPrefix(key, "-") {
		return nil, errUnknown // a host without getent knows its files only
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, database, key)
	cmd.Env = []string{"PATH=" + defaultPath, "LC_ALL=C"}
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("getent %s did not answer in %s", database, getentBound)
	}
	if err != nil {
		return nil, errUnknown
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), ":"), nil
}
