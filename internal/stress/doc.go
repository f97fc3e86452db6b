// Package stress makes loads of a known size inside a container and reads the
// container's own counters while they run: what a meter must have seen.
//
// It shares no code with the meter that it checks. The handler serves
//
//	GET /stress/cpu/{cores}    keeps that many cores busy; 0 ends it
//	GET /stress/ram/{MB}       holds that many megabytes (10^6 bytes)
//	GET /stress/disk/{MB}      holds a file of that many megabytes
//	GET /stress/net/{n}?url=   fetches a page n times, one after another
//	GET /page                  a page of 64 KiB
//	GET /readings?from=        the container's readings since then, one a second
//	GET /healthz
//
// A load stays until it is asked for in another size. Readings are taken from
// the container's control group (version 1 or 2), its network interfaces but lo,
// and the blocks of the file that holds the disk's load.
package stress
