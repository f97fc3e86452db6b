// Package chaos shows that the sync is exact, by random schedules: a store that
// settles windows of random tables, a puller with its registry, a centre, and a
// link between them that cuts answers, loses acknowledgements, repeats requests
// and drops lines, while processes and volumes are lost. A model in plain maps
// says beside it what each store has settled and what the centre must hold.
//
// It holds tests alone. All that happens in a schedule is decided by its seed:
// what is written and when by a plan that is made before, what befalls a request
// by the request itself. So `make chaos SEED=123 N=1` is schedule 123 again.
package chaos
