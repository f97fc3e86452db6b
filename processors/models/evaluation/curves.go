package evaluation

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/processors/models"
)

// Curve is a server that was measured at eleven levels of load.
type Curve struct {
	Group  string  // of servers with one processor; those without a name are one group
	Year   int     // from which it could be had; 0: unknown
	Nodes  int     // behind the one meter
	Cores  float64 // of a node; 0: unknown
	Points []models.Point
}

// loadOff is how far a load may be from its target, in points of per cent. Those of
// published servers are within 3.
const loadOff = 5

// tenths is how many levels a curve has above idle.
const tenths = 10

// full and idle are the ends' watts.
func (c Curve) idle() float64 { return c.Points[0].Watts }
func (c Curve) full() float64 { return c.Points[tenths].Watts }

// at is the points at some levels, in tenths.
func (c Curve) at(levels ...int) []models.Point {
	points := make([]models.Point, 0, len(levels))
	for _, l := range levels {
		points = append(points, c.Points[l])
	}
	return points
}

// ReadCurves reads servers' curves: watts at idle and at ten target loads
// (w_idle, w_10 … w_100), the loads that were reached in per cent (load_10 …
// load_100), the number of nodes behind the meter and the group, which is the
// processor. Loads are taken as shares of load_100, watts per node. The columns
// hw_avail, published and cores_per_node are used where they are there.
func ReadCurves(r io.Reader) ([]Curve, error) {
	needed := []string{"w_idle", "nodes", "group"}
	for i := 1; i <= tenths; i++ {
		needed = append(needed, fmt.Sprint("w_", i*10), fmt.Sprint("load_", i*10))
	}
	s, err := readSheet(r, needed)
	if err != nil {
		return nil, err
	}
	curves := make([]Curve, 0, len(s.rows))
	for row := range s.rows {
		c, err := s.curve(row)
		if err != nil {
			return nil, err
		}
		curves = append(curves, c)
	}
	return curves, nil
}

func (s *sheet) curve(row int) (Curve, error) {
	nodes, err := s.number(row, "nodes", 1)
	if err != nil {
		return Curve{}, err
	}
	c := Curve{Group: s.text(row, "group"), Nodes: int(nodes), Year: yearOf(s.text(row, "hw_avail"), s.text(row, "published"))}
	if cores, err := s.number(row, "cores_per_node", 1); err == nil {
		c.Cores = cores
	}
	idle, err := s.number(row, "w_idle", 1e-9)
	if err != nil {
		return Curve{}, err
	}
	c.Points = []models.Point{{Utilisation: 0, Watts: idle / nodes}}
	for i := 1; i <= tenths; i++ {
		load, err := s.number(row, fmt.Sprint("load_", i*10), 1e-9)
		if err != nil {
			return Curve{}, err
		}
		watts, err := s.number(row, fmt.Sprint("w_", i*10), 1e-9)
		if err != nil {
			return Curve{}, err
		}
		if load <= c.Points[i-1].Utilisation {
			return Curve{}, fmt.Errorf("line %d: load_%d is %g %%, not above the level before it: %w", s.lines[row], i*10, load, ErrFile)
		}
		c.Points = append(c.Points, models.Point{Utilisation: load, Watts: watts / nodes})
	}
	if c.full() < c.idle() {
		return Curve{}, fmt.Errorf("line %d: w_idle %g W is above w_100 %g W: %w", s.lines[row], idle, c.full()*nodes, ErrFile)
	}
	top := c.Points[tenths].Utilisation
	for i := range c.Points {
		c.Points[i].Utilisation /= top
		if off := c.Points[i].Utilisation*100 - float64(i*10); off > loadOff || off < -loadOff {
			return Curve{}, fmt.Errorf("line %d: load_%d is %.1f %% of load_100: more than %d points from its target: %w", s.lines[row], i*10, c.Points[i].Utilisation*100, loadOff, ErrFile)
		}
	}
	return c, nil
}

// yearOf is the first year in the texts ("May-2007"), or 0.
func yearOf(texts ...string) int {
	for _, text := range texts {
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
			if year, err := strconv.Atoi(word); err == nil && len(word) == 4 && year >= 1990 && year < 2200 {
				return year
			}
		}
	}
	return 0
}

// maxFolds of the groups: what is fitted from four fifths is scored on the rest.
const maxFolds = 5

// foldSize is how many curves a fold has at least, on average: a box of six
// different nodes is composed within one.
const foldSize = 12

// folds is each curve's fold, and how many there are: 1, where the file is too
// small to teach and test. All curves of a group are in one fold.
func folds(curves []Curve) (of []int, n int) {
	sizes := map[string]int{}
	for _, c := range curves {
		sizes[c.Group]++
	}
	n = max(min(maxFolds, len(sizes), len(curves)/foldSize), 1)
	// The largest group first, each to the smallest fold: even sizes.
	hash := func(s string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s)) // never fails
		return h.Sum64()
	}
	groups := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		if sizes[a] != sizes[b] {
			return sizes[b] - sizes[a]
		}
		if ha, hb := hash(a), hash(b); ha != hb {
			if ha < hb {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	fold, filled := map[string]int{}, make([]int, n)
	for _, g := range groups {
		least := slices.Index(filled, slices.Min(filled))
		fold[g] = least
		filled[least] += sizes[g]
	}
	for _, c := range curves {
		of = append(of, fold[c.Group])
	}
	return of, n
}

// Servers is the curves as a prior is built of them.
func Servers(curves []Curve) []models.Server {
	servers := make([]models.Server, 0, len(curves))
	for _, c := range curves {
		servers = append(servers, models.Server{Points: c.Points, Year: c.Year, Group: c.Group})
	}
	return servers
}

// unseen is for each fold the prior of all other folds; nil with one fold.
func unseen(curves []Curve, of []int, n int) ([]models.Prior, error) {
	if n < 2 {
		return nil, nil
	}
	priors := make([]models.Prior, 0, n)
	for fold := range n {
		var others []Curve
		for i, c := range curves {
			if of[i] != fold {
				others = append(others, c)
			}
		}
		prior, err := models.BuildPrior(Servers(others), "the file's other groups")
		if err != nil {
			return nil, fmt.Errorf("prior of the file's curves: %w", err)
		}
		priors = append(priors, prior)
	}
	return priors, nil
}
