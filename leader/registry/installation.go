package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// What is wanted of a cluster's installation.
const (
	WishInstall = "install"
	WishRemove  = "remove"
	WishGitOps  = "gitops" // somebody else installs and upgrades it
)

// States of a cluster's installation.
const (
	InstallPending    = "pending"    // nothing was tried yet
	InstallInstalling = "installing" // being installed or upgraded, or not ready yet
	InstallReady      = "ready"
	InstallDegraded   = "degraded" // installed, and something is wrong
	InstallFailed     = "failed"   // could not be installed or upgraded
	InstallRemoving   = "removing"
	InstallRemoved    = "removed"
	InstallGitOps     = "gitops"
)

// InstallStates are all states.
var InstallStates = []string{InstallPending, InstallInstalling, InstallReady, InstallDegraded, InstallFailed,
	InstallRemoving, InstallRemoved, InstallGitOps}

// Installation is the follower's installation in one cluster.
type Installation struct {
	Cluster string `json:"cluster"`

	// What is wanted. Generation rises with each change of it.
	Wish       string         `json:"wish"`
	Version    string         `json:"version,omitempty"` // of the chart
	Values     map[string]any `json:"values,omitempty"`  // over those that every cluster gets; no secrets
	Adopt      bool           `json:"adopt,omitempty"`   // take over what somebody else installed
	Force      bool           `json:"force,omitempty"`   // remove although the last pull, or the cluster, fails
	GitOps     bool           `json:"gitops,omitempty"`  // what stands there is somebody else's, also when it is removed
	Generation int64          `json:"generation"`

	// How it is.
	State    string    `json:"state"`
	Step     string    `json:"step,omitempty"`    // the last that was begun
	Class    string    `json:"class,omitempty"`   // of what is wrong (leader/fault)
	Message  string    `json:"message,omitempty"` // what happened
	Hint     string    `json:"hint,omitempty"`    // what to do
	Since    time.Time `json:"since"`             // of the state
	Tried    time.Time `json:"tried,omitzero"`    // the last attempt
	Next     time.Time `json:"next,omitzero"`     // the next attempt or look
	Attempts int       `json:"attempts,omitempty"`

	// What stands in the cluster.
	Installed     string    `json:"installed,omitempty"` // version of the chart
	Revision      int       `json:"revision,omitempty"`  // of the release
	Applied       time.Time `json:"applied,omitzero"`    // the last change of the release
	Verified      time.Time `json:"verified,omitzero"`   // when the release was last compared with what is wanted
	Done          int64     `json:"done"`                // the generation that was carried out; 0 is none
	ChartDigest   string    `json:"chartDigest,omitempty"`
	ValuesDigest  string    `json:"valuesDigest,omitempty"`
	MadeNamespace bool      `json:"madeNamespace,omitempty"`
	Pulled        time.Time `json:"pulled,omitzero"` // the last pull before a removal
}

// Settled says whether the installer has carried out what was last asked for, or
// says that it cannot.
func (i Installation) Settled() bool {
	switch i.State {
	case InstallReady, InstallDegraded, InstallGitOps, InstallRemoved:
		return i.Done >= i.Generation
	}
	return i.State == InstallFailed
}

// Upgrade states, of the whole and of a cluster in it.
const (
	UpgradeRunning = "running"
	UpgradeStopped = "stopped" // after too many failures, or by an operator
	UpgradeDone    = "done"
	UpgradeWaiting = "waiting" // for its wave
	UpgradeFailed  = "failed"
)

// UpgradePlan is how an upgrade of many clusters goes.
type UpgradePlan struct {
	Version     string         `json:"version"`            // of the chart; "" is the leader's own
	Canary      []string       `json:"canary,omitempty"`   // clusters of the first wave
	Canaries    int            `json:"canaries,omitempty"` // how many make the first wave where Canary names none
	WaveSize    int            `json:"waveSize,omitempty"` // clusters of each later wave; 0 is all that are left
	Soak        fleet.Duration `json:"soak,omitzero"`      // how long a wave is watched before the next begins
	MaxFailures int            `json:"maxFailures"`        // with so many it stops; 0 is 1
}

// Upgrade is one upgrade in waves.
type Upgrade struct {
	ID int64 `json:"id"`
	UpgradePlan
	State    string           `json:"state"`
	Message  string           `json:"message,omitempty"`
	By       string           `json:"by"`
	Created  time.Time        `json:"created"`
	Changed  time.Time        `json:"changed"`
	Wave     int              `json:"wave"`               // that runs or soaks, from 0
	Soaked   time.Time        `json:"soakUntil,omitzero"` // when the next wave may begin; zero while this one runs
	Clusters []UpgradeCluster `json:"clusters"`           // by wave
}

// UpgradeCluster is one cluster of an upgrade.
type UpgradeCluster struct {
	Cluster string    `json:"cluster"`
	Wave    int       `json:"wave"`
	State   string    `json:"state"`
	Message string    `json:"message,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Installation is a cluster's; ErrNotFound.
func (r *Registry) Installation(ctx context.Context, cluster string) (Installation, error) {
	found, err := installation(ctx, r.reader, cluster)
	if err != nil {
		return Installation{}, fmt.Errorf("installation of %s: %w", cluster, err)
	}
	return found, nil
}

func installation(ctx context.Context, q queryer, cluster string) (Installation, error) {
	var body []byte
	err := q.QueryRowContext(ctx, "SELECT body FROM installation WHERE cluster = ?", cluster).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return Installation{}, ErrNotFound
	}
	var found Installation
	if err == nil {
		err = json.Unmarshal(body, &found)
	}
	return found, err
}

// Installations are all, by cluster.
func (r *Registry) Installations(ctx context.Context) ([]Installation, error) {
	var all []Installation
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		var found Installation
		err := json.Unmarshal(body, &found)
		all = append(all, found)
		return err
	}, "SELECT body FROM installation ORDER BY cluster")
	if err != nil {
		return nil, fmt.Errorf("installations: %w", err)
	}
	return all, nil
}

// ChangeInstallation changes a cluster's installation in one transaction. Where
// there is none, change gets an empty one; what it returns is not stored with an
// error. The result is what is stored now.
func (r *Registry) ChangeInstallation(ctx context.Context, cluster string, change func(*Installation) error) (Installation, error) {
	var changed Installation
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		found, err := installation(ctx, tx, cluster)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := change(&found); err != nil {
			return err
		}
		found.Cluster = cluster
		body, err := json.Marshal(found)
		if err != nil {
			return err
		}
		changed = found
		_, err = tx.ExecContext(ctx, "INSERT INTO installation (cluster, body) VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
			cluster, string(body))
		return err
	})
	if err != nil {
		return Installation{}, fmt.Errorf("change installation of %s: %w", cluster, err)
	}
	return changed, nil
}

// AddUpgrade stores a new upgrade and gives it its number.
func (r *Registry) AddUpgrade(ctx context.Context, u Upgrade) (Upgrade, error) {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "INSERT INTO upgrade (body) VALUES ('') RETURNING id").Scan(&u.ID)
		if err != nil {
			return err
		}
		return putUpgrade(ctx, tx, u)
	})
	if err != nil {
		return Upgrade{}, fmt.Errorf("add upgrade: %w", err)
	}
	return u, nil
}

// PutUpgrade stores how far an upgrade is.
func (r *Registry) PutUpgrade(ctx context.Context, u Upgrade) error {
	if err := r.write(ctx, synced, func(tx *sql.Tx) error { return putUpgrade(ctx, tx, u) }); err != nil {
		return fmt.Errorf("store upgrade %d: %w", u.ID, err)
	}
	return nil
}

func putUpgrade(ctx context.Context, tx *sql.Tx, u Upgrade) error {
	body, err := json.Marshal(u)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE upgrade SET body = ? WHERE id = ?", string(body), u.ID)
	return err
}

// Upgrades are all upgrades, the newest first.
func (r *Registry) Upgrades(ctx context.Context) ([]Upgrade, error) {
	var all []Upgrade
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		var u Upgrade
		err := json.Unmarshal(body, &u)
		all = append(all, u)
		return err
	}, "SELECT body FROM upgrade ORDER BY id DESC")
	if err != nil {
		return nil, fmt.Errorf("upgrades: %w", err)
	}
	return all, nil
}
