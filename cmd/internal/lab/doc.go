// Package lab is test support: hosts, networks and partitions for tests that
// run the real program. No other code imports it.
//
// A lab is a handful of network namespaces on a bridge that lives in one more
// namespace, the switch:
//
//	host 1        host 2        host 3      lc<pid>-<k>-h<i>, eth0 10.88.x.y/16
//	  |             |             |
//	  p1            p2            p3
//	  '------------ br0 ----------'         lc<pid>-<k>-sw; cuts are nftables
//	                                        rules of the bridge family here
//
// Labs of one process are counted, and carry the process's id, so that parallel
// packages do not meet; every lab has all of 10.88.0.0/16 to itself. A lab is
// taken down with its test, together with all that still runs in it; what a
// killed test process left is taken down by the next lab of any process.
//
// It takes root, iproute2 and nftables. Without them the test is skipped, or
// fails where CI=true: a level of tests must not vanish unseen. Everything but
// the network is shared with the machine; processes in a lab may not set the
// clock, which no namespace confines.
package lab
