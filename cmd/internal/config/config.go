package config

import (
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// A Config is everything that the files say, with every default filled in.
// It is a value that nobody changes once Load has returned it.
type Config struct {
	Path  string   // the file that was loaded, absolute
	Files []string // that file and all it includes, in the order they were read

	Node    Node
	Cluster *Cluster // nil: alone, a legion of one without a socket
	Legions map[string]Legion
	Checks  []Check
	Jobs    []jobs.Job // those of [[job]] first, then the lists in uWSGI's syntax
	Notify  []Notify
	HTTP    *HTTP // nil: the unix socket only
	Control Control
	Log     Log

	Warnings Problems // what is accepted but does not do (yet) what one may expect

	root *item // where everything stands; nil: not read from files
}

// Place is where a key such as node.state_dir stands, as file:line: for errors
// that show only once the node runs. A key that is not written down is placed
// where its section is, or where the file is.
func (c *Config) Place(key string) string {
	place, it := c.Path, c.root
	for _, part := range strings.Split(key, ".") {
		if it == nil || it.table[part] == nil {
			break
		}
		if it = it.table[part]; it.line > 0 {
			place = it.place()
		}
	}
	return place
}

// Node is the [node] section: this process and its host.
type Node struct {
	Name        string        // unique in the cluster; default: the host's name
	StateDir    string        // ledger, grants, outputs; default /var/lib/legion-cron
	Timezone    string        // IANA name for jobs that name none; empty: the host's zone
	MaxRuns     int           // runs alive at once on this node; more of them wait; default 1000
	StopTimeout time.Duration // how long SIGTERM waits for runs; default 60 s
	Keep        time.Duration // how long finished runs stay in the ledger; default 90 d
	LostAfter   time.Duration // an unheard node's runs are lost after this; default 30 s. Sooner: more runs declared lost in short cuts; later: slots of on_lost = "rerun" wait longer
}

// Location is the node's own time zone.
func (n Node) Location() *time.Location { return location(n.Timezone) }

// Cluster is the [cluster] section: how this node meets the others.
type Cluster struct {
	Bind      string   // address to listen on, host:port; default 0.0.0.0:4242
	Advertise string   // address that others use to reach this node; empty: found from Bind
	Join      []string // host or host:port each; without a port it is that of Bind
	Keys      [][]byte // 16, 24 or 32 bytes each; the first one encrypts; from keys_file
	KeysFile  string   // where Keys were read; empty: none
	Insecure  bool     // no keys although the network is not this host's own

	Size        int           // voters in the electorate, 1 to 7; default 3
	Vote        bool          // willing to be one of them; default true
	Profile     string        // lan, fast or wan: the defaults of Beat and Lease
	Beat        time.Duration // between two renewals; shorter: quicker handover of the throne, more packets
	Lease       time.Duration // how long a vote holds; shorter: quicker failover, less patience with pauses
	ForgetAfter time.Duration // an unheard voter is replaced after this; default 72 h
}

// Legion is one [legion.NAME] section.
type Legion struct {
	Name             string
	Valor            int           // weight of this node; 0: an arbiter, never lord; default 100
	Quorum           int           // votes a lord needs; 0: the majority of the electorate
	UnsafeQuorum     bool          // Quorum may be half of the electorate or less: two lords in a split
	Preempt          bool          // a better node takes over from a living lord; default true
	PreemptDelay     time.Duration // how long it must have been better; 0: two beats
	Stickiness       int           // by how much it must be better; default 0: at all
	Spread           bool          // lordships held elsewhere count against a node; default true
	Scroll           string        // a text shown to all members, at most 4 KiB
	LordErrorSuspend time.Duration // how long a node stays away after its lord hook failed; 0: it stays lord; default 30 s
	On               map[string][]Hook
	Implicit         bool // named by a uWSGI-style entry only, without a section
}

// Unsafe reports whether two sides of a split could each have a lord, given
// the size of the electorate.
func (l Legion) Unsafe(size int) bool { return l.Quorum > 0 && 2*l.Quorum <= size }

// A Hook is one thing that happens on an event of a legion.
type Hook struct {
	Kind string // "cmd": Text is a command for /bin/sh -c; "log": Text is a message
	Text string
}

// Events are the events of a legion that hooks can be tied to.
var Events = []string{"setup", "join", "lord", "unlord", "death", "node-joined", "node-left"}

// A Check is one [[check]], or one entry of legion-valor-check.
type Check struct {
	Name    string
	Legions []string // empty: every legion of this node
	Kind    string   // one of CheckKinds; it says which of the keys below count

	Host     string // ping
	Process  string // process: the name of its executable, ...
	Pattern  string // ... or a regular expression for its command line, ...
	PIDFile  string // ... or a file with its id
	Address  string // tcp: host:port
	URL      string // http
	Status   []int  // http: accepted codes; empty: 200 to 399
	Contains string // http: text that the first MiB of the body must hold
	Method   string // http: default GET
	// MaxRedirects is how many redirections are followed; default 0: a
	// redirection is the answer. TLSVerify (default true) wants a certificate of
	// an authority of the system, or of the file TLSCA, for the URL's host or
	// for TLSName. All of http.
	MaxRedirects int
	TLSVerify    bool
	TLSCA        string
	TLSName      string

	Command string        // exec: a text for /bin/sh -c, ...
	Argv    []string      // ... or an argument list
	Unit    string        // unit: of systemd
	Path    string        // file, disk
	MaxAge  time.Duration // file: since its last change; 0: it need only exist
	MinFree Amount        // disk, memory
	MaxLoad float64       // load: one-minute average per CPU

	Interval time.Duration // default 5 s
	Timeout  time.Duration // default: the interval
	Rise     int           // results in a row until it passes; default 1
	Fall     int           // results in a row until it fails; default 2
	Valor    int           // below 0: added while it fails; above 0: while it passes; 0: Required
	Required bool          // a veto: the node is unfit until it passes

	Source string // "file:line", for messages only
}

// CheckKinds are the kinds of checks.
var CheckKinds = []string{"ping", "process", "tcp", "http", "exec", "unit", "file", "disk", "load", "memory"}

// An Amount is a share or a number of bytes; one of the two is zero.
type Amount struct {
	Percent float64
	Bytes   int64
}

// Notify is one [[notify]]: whom to tell about what.
type Notify struct {
	Name    string
	On      []string      // of NotifyEvents
	After   int           // failures in a row before the first word; default 1
	Repeat  time.Duration // between two words about the same trouble; 0: say it once
	Webhook string        // exactly one of these three
	Command string
	Mail    string
	Source  string // "file:line", for messages only
}

// NotifyEvents are the events that a [[notify]] can be about.
var NotifyEvents = []string{"failure", "recovery", "missed", "lost", "timeout", "no-lord", "lord-changed"}

// HTTP is the [http] section: the TCP listener.
type HTTP struct {
	Listen  string // host:port
	Token   string // bearer token of writes, from token_file; empty: no writes
	TLSCert string // both or none
	TLSKey  string
}

// Control is the [control] section: the unix socket.
type Control struct {
	Socket string // default /run/legion-cron/control.sock
	Group  string // members may use it beside root and the daemon's user; empty: none
}

// Log is the [log] section.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, journald, console or json
}

// The figures that hold where a file says nothing.
const (
	DefaultStateDir = "/var/lib/legion-cron"
	DefaultSocket   = "/run/legion-cron/control.sock"
	DefaultBind     = "0.0.0.0:4242" // uWSGI's legion port
	defaultPort     = "4242"
	defaultShell    = "/bin/sh"

	day = 24 * time.Hour
)

// Default is the configuration of an empty file on a host of that name.
func Default(hostname string) *Config {
	return &Config{
		Node: Node{
			Name:        hostname,
			StateDir:    DefaultStateDir,
			MaxRuns:     1000,
			StopTimeout: 60 * time.Second,
			Keep:        90 * day,
			LostAfter:   30 * time.Second,
		},
		Legions: map[string]Legion{},
		Control: Control{Socket: DefaultSocket},
		Log:     Log{Level: "info", Format: "auto"},
	}
}

// profiles are the timings of [cluster] profile. A lord's host that dies
// leaves the throne empty for one lease.
var profiles = map[string]struct{ beat, lease time.Duration }{
	"lan":  {300 * time.Millisecond, 2 * time.Second},
	"fast": {100 * time.Millisecond, 600 * time.Millisecond},
	"wan":  {2 * time.Second, 10 * time.Second},
}

func defaultCluster() Cluster {
	return Cluster{
		Bind:        DefaultBind,
		Size:        3,
		Vote:        true,
		Profile:     "lan",
		Beat:        profiles["lan"].beat,
		Lease:       profiles["lan"].lease,
		ForgetAfter: 72 * time.Hour,
	}
}

func defaultLegion(name string) Legion {
	return Legion{Name: name, Valor: 100, Preempt: true, Spread: true, LordErrorSuspend: 30 * time.Second, On: map[string][]Hook{}}
}

func defaultJob() jobs.Job {
	return jobs.Job{
		DST:          "cron",
		Shell:        defaultShell,
		Umask:        -1,
		StopSignal:   "TERM",
		Grace:        10 * time.Second,
		Overlap:      jobs.OverlapSkip,
		Backoff:      1,
		SuccessCodes: []int{0},
		CatchUp:      jobs.CatchUpDefault,
		CatchUpRuns:  jobs.CatchUpLast,
		OnLost:       jobs.OnLostSkip,
		OnUnlord:     jobs.OnUnlordFinish,
		MaxOutput:    1 << 20,
		Enabled:      true,
	}
}

func defaultCheck() Check {
	return Check{Interval: 5 * time.Second, Rise: 1, Fall: 2, Method: "GET", TLSVerify: true}
}
