//go:build !linux

package main

import "errors"

func inside(string, []string) (int, error, bool) { return 0, nil, false }

func outside(string, settings) (int, error) { return 1, errors.New("nodes need Linux") }
