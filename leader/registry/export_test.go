package registry

import (
	"context"
	"strings"
)

// KnowledgeOfAll is the knowledge of a cluster without the condition that keeps
// it to the cluster: the bug that tests of leaks must find.
func (r *Registry) KnowledgeOfAll(ctx context.Context, cluster string) (Knowledge, error) {
	rows, _, err := nodeFacts(ctx, r.reader, strings.Replace(knowledgeQuery, ofCluster, "?1 <> ''", 1), cluster)
	return Knowledge{Nodes: rows, Generation: 1}, err
}
