// Package metrics is what a node tells Prometheus.
//
// Counters and histograms grow where things happen ([Metrics.Ended],
// [Metrics.Decided], ...); everything that is a state is read from the node
// when somebody asks ([State]), so that no second truth can go stale. Every
// series of what is configured is there from the start, with 0: a rule on a
// series that does not exist yet would never fire.
//
// # Whose numbers
//
// A node tells of itself: its lordships, its checks, the runs that it executed
// and the slots that it decided about as lord. Sums over all nodes are those of
// the cluster; max() of the last success is right, for voters hear of
// everybody's runs and the others of their own.
//
// # Limits
//
// At most [MaxJobs] jobs have series of their own; the others share the name
// "(other)". The reasons of a change of lord are classes, not texts.
//
// Methods are safe for concurrent use and do not block, but for scraping, which
// asks the node.
package metrics
