// Package control is how people and programs talk to a node: the wire types
// of /v1, one http.Handler that serves them, the unix socket it is served on,
// and the client of that socket.
//
// # Authority
//
// None. A handler asks its Backend and writes down the answer; what may be
// done, and by which node, is the backend's to say. The package knows no
// protocol, no configuration and no clock but the one that bounds requests.
//
// # Routes
//
//	GET  /v1/status               Status
//	GET  /v1/members              []Member
//	GET  /v1/jobs                 []Job; ?scope=node: []Listing
//	GET  /v1/jobs/{name}          Explanation; ?scope=node: as one node knows
//	GET  /v1/jobs/{name}/next     Next; ?from= &n=
//	GET  /v1/runs                 []Run, newest first; ?job= &since= &outcome= &limit=
//	GET  /v1/runs/{id}/output     text, from the node of the run; ?follow=true
//	GET  /v1/metrics              in the format of Prometheus
//	GET  /v1/runs/{id}            Story, of a run or of the slot of that name; ?scope=node: its Tail
//	GET  /v1/lord/{legion}        Lord: 200 on the lord, 503 elsewhere, 404 unknown legion
//	GET  /v1/legions/{name}/taken is a slot of exec's claimed? ?job= &at=
//	POST /v1/node/reload          Reload
//	POST /v1/node/drain           Drained; ?now=true
//	POST /v1/node/undrain         Drained
//	POST /v1/legions/{name}/step-down  SteppedDown, by the lord; ?for= &to=
//	POST /v1/legions/{name}/valor      Valor; ?valor=, or none to reset it
//	POST /v1/jobs/{name}/trigger  Run; pause, resume
//	POST /v1/runs/{id}/kill       Run; ?signal=
//	POST /v1/runs/{id}/rerun      Run
//	POST /v1/legions/{name}/pause PauseOrder; resume
//	POST /v1/legions/{name}/exec  a conversation: see ExecAsk. For this host alone
//
// Every answer but those two texts is JSON. Keys are always present and never change: a moment
// that is not known is null, a list without entries is [].
//
// # Which node acts
//
// Every node answers for the whole cluster: a handler is registered with the
// place that must act, and at any other node the request is carried there by
// the Courier, served by the same Handler, and the answer passed on as it
// arrives. A place (routes.at) is the lord of the legion named in the path
// (lordOf), a node (?node=NAME for every get and post: here), or what a
// function of the resource's own says. All nodes are asked by Gather, with a deadline, and who did not answer
// is named in the header Legion-Silent, and by the client to its Silent.
//
//	CLI -> unix socket -> at(lordOf) -- gossip --> at(lordOf) -> Backend
//	                          this node | the lord's node
//
// RoutedFrom names the node that a request was routed from; such a request is
// served or refused with 421, and never routed again, so there are no loops.
// On a 421 the first node looks again who must act. Asker says who asked.
// What is carried is a request of this API and nothing else: it names jobs,
// runs, legions and nodes, never a command.
//
// # Failures
//
// Every failure is {"error": ..., "hint": ...} with the status code of what
// went wrong: 400 for a bad query, 403 for a peer that may not ask, 404 for
// something that does not exist, 405 for the wrong method, 409 for a refusal,
// 421 for a request that was routed to the wrong node, 422 for a configuration with errors, 500 for a fault of the node, 503 for a
// node that cannot answer now. The client turns them back into an *Error, and
// a socket on which nobody answers into one that wraps ErrNoAgent.
//
// # Who may ask
//
// The socket has mode 0660 and, if one is configured, a group. Between bind
// and chmod its mode is the umask's, so the mode alone is not relied on: the
// kernel's word about the peer (SO_PEERCRED) must name root, the agent's own
// user, or a member of the group. Anybody else gets a 403 that says so.
//
// # Limits
//
// Connections, request bodies, headers, answers and the time each may take
// are bounded by the constants in server.go and client.go. Not promised:
// fairness between clients, or an order between their requests; and that a
// routed request without an answer was not served.
package control
