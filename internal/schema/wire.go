package schema

// Headers of requests to a follower's port.
const (
	// FenceHeader is the leader's fence number, a decimal int64 of at least 1,
	// with each write.
	FenceHeader = "Accumulus-Fence"
	// AuthorizationHeader stands in for Authorization where something on the way,
	// such as the proxy of an API server, needs that for itself and keeps it.
	AuthorizationHeader = "Accumulus-Authorization"
)
