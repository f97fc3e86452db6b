package review

import (
	"sync"
	"time"
)

// memory remembers values until a time of their own, at most size of them.
type memory[K comparable, V any] struct {
	size int

	mu   sync.Mutex
	held map[K]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newMemory[K comparable, V any](size int) *memory[K, V] {
	return &memory[K, V]{size: size, held: make(map[K]remembered[V])}
}

func (m *memory[K, V]) get(key K, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.held[key]
	if ok && !now.Before(found.until) {
		delete(m.held, key)
		return *new(V), false
	}
	return found.value, ok
}

// put remembers a value. When there is no room, what is over goes, and if
// nothing is, any one: it is only asked for again.
func (m *memory[K, V]) put(key K, value V, now, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.held[key]; !ok && len(m.held) >= m.size {
		for other, held := range m.held {
			if !now.Before(held.until) {
				delete(m.held, other)
			}
		}
		for other := range m.held {
			if len(m.held) < m.size {
				break
			}
			delete(m.held, other)
		}
	}
	m.held[key] = remembered[V]{value, until}
}
