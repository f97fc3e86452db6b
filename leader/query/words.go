package query

import "github.com/accumulus-metering/accumulus/internal/usage"

// Words of questions and answers, which a follower's API shares.
type (
	Request    = usage.Request
	Row        = usage.Row
	Money      = usage.Money
	Key        = usage.Key
	Condition  = usage.Condition
	Exact      = usage.Exact
	Sums       = usage.Sums
	InputError = usage.InputError

	ClusterWindow  = usage.ClusterWindow
	ClusterSettled = usage.ClusterSettled
)

// The keys that the leader's own facts are asked by.
const (
	Cluster   = usage.Cluster
	Box       = usage.Box
	Node      = usage.Node
	Hardware  = usage.Hardware
	Namespace = usage.Namespace
	Workload  = usage.Workload
	Pod       = usage.Pod
	Container = usage.Container
	Customer  = usage.Customer
	Project   = usage.Project
	User      = usage.User
	Provider  = usage.Provider
	Region    = usage.Region
)

// Keys are all keys but the labels.
var Keys = usage.Keys

// ErrOverflow is a sum beyond the range of int64.
var ErrOverflow = usage.ErrOverflow
