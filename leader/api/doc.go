// Package api is the leader's REST interface and its status page.
//
// Every route stands in one table (Server.Routes), from which the router and the
// test that walks all of them are made. What is not in the table is refused;
// what is in it names the role that it needs: nobody, viewer or operator.
// State changes only by POST, PUT and DELETE; a GET of an endpoint that changes
// something is 405 and says so. Errors are application/problem+json with a
// hint what to do.
//
// It decides nothing: answers come from leader/query, changes go to the leader
// through the small interfaces in Deps.
package api
