// Package settings fills a command's flags from what is not on the command
// line: the environment, then a YAML file, then the flags' defaults. A flag
// some-name is the variable ACCUMULUS_SOME_NAME and the key some-name. All that
// is wrong is one error.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Prefix is of the variables' names.
const Prefix = "ACCUMULUS_"

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Fill sets the flags that were not given on the command line: from env, which
// tells a variable and whether it is set, else from the text of a YAML file
// (may be empty). A key without a flag is an error, and so is a value that its
// flag does not take.
func Fill(flags *pflag.FlagSet, env func(string) (string, bool), file []byte) error {
	values := make(map[string]any)
	if err := yaml.UnmarshalStrict(file, &values); err != nil {
		return fmt.Errorf("read configuration file: %w", err)
	}
	var errs []error
	flags.VisitAll(func(flag *pflag.Flag) {
		value, inFile := values[flag.Name]
		delete(values, flag.Name)
		if flag.Changed {
			return
		}
		var err error
		if text, ok := env(Variable(flag.Name)); ok {
			if err = flags.Set(flag.Name, text); err != nil {
				err = fmt.Errorf("%s: %w", Variable(flag.Name), err)
			}
		} else if inFile {
			if err = set(flags, flag.Name, value); err != nil {
				err = fmt.Errorf("configuration file: %w", err)
			}
		}
		errs = append(errs, err)
	})
	var unknown []string
	for key := range values {
		unknown = append(unknown, key)
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		errs = append(errs, fmt.Errorf("configuration file: there is no setting %q", key))
	}
	return errors.Join(errs...)
}

// set gives a YAML value to a flag; a list is joined by commas.
func set(flags *pflag.FlagSet, name string, value any) error {
	switch v := value.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, part := range v {
			parts[i] = fmt.Sprint(part)
		}
		return flags.Set(name, strings.Join(parts, ","))
	case map[string]any:
		return fmt.Errorf("setting %q takes no map", name)
	case nil:
		return fmt.Errorf("setting %q has no value", name)
	case float64: // YAML's numbers; %v would write 1e+06
		return flags.Set(name, strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%f", v), "0"), "."))
	}
	return flags.Set(name, fmt.Sprint(value))
}
