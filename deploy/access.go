package deploy

import "embed"

// Access are the files below access/: what a cluster lets the leader do, as
// objects of its API. account.yaml and link.yaml are for every cluster; token.yaml
// where the leader's token does not end, renew.yaml where it does; install.yaml
// besides for those in which the leader installs the follower.
//
//go:embed access
var Access embed.FS
