package config

import (
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/agext/levenshtein"
	"github.com/kelseyhightower/envconfig"
	"go.uber.org/zap/zapcore"
)

const (
	prefix     = "PGEVICT_"
	fileSuffix = "_FILE"
)

// env holds the variables that are set. One that is empty, or only white space, is not: a manifest that leaves a value
// out means the default.
type env map[string]string

func newEnv(environ []string) env {
	e := make(env, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value = strings.TrimSpace(value); value != "" {
			e[name] = value
		} else {
			delete(e, name)
		}
	}
	return e
}

// decode has envconfig turn text into the field. Left to itself envconfig reads the environment of the process, stops
// at the first problem, lets an empty variable beat a default, and reads X for PGEVICT_X. So it is given one field at a
// time, the text as that field's default, under a name that no environment can hold. Its error shows the text: drop it.
func decode(field reflect.Value, text string) error {
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value",
		Type: field.Type(),
		Tag:  reflect.StructTag("default:" + strconv.Quote(text)),
	}}))
	if err := envconfig.Process("=", one.Interface()); err != nil {
		return err
	}
	field.Set(one.Elem().Field(0))
	return nil
}

// expected is what a message says instead of the value, which may be a secret that went into the wrong variable.
func expected(value any) string {
	switch value.(type) {
	case time.Duration:
		return "a duration such as 2s or 500ms"
	case int:
		return "a whole number such as 200000"
	case bool:
		return "true or false"
	case zapcore.Level:
		return "a level: debug, info, warn or error"
	case Gap:
		return "sweep or ignore"
	case LogFormat:
		return "json or console"
	default:
		return "readable"
	}
}

// Secret is a URL with a password in it. It knows how to get the text rather than the text: fmt, JSON and zap print what
// a struct holds, unexported fields and all, and a function they cannot.
type Secret struct {
	name string // of the variable that it comes from
	read func() (string, error)
}

// Given reports whether there is one.
func (s Secret) Given() bool { return s.read != nil }

// String is the name of the variable that it comes from.
func (s Secret) String() string { return s.name }

func (s Secret) value(name string) (string, error) {
	if !s.Given() {
		return "", missing(name)
	}
	return s.read()
}

func missing(name string) error {
	return fmt.Errorf("%s: required (or %s, or a file: %s)", name, prefix+name, name+fileSuffix)
}

// secret looks for name: with the prefix before without, itself or as a file. A file is read whenever its text is
// wanted, so that one that was replaced counts.
func (e env) secret(name string) (Secret, error) {
	for _, name := range []string{prefix + name, name} {
		text, path := e[name], e[name+fileSuffix]
		switch {
		case text != "" && path != "":
			return Secret{}, fmt.Errorf("%s, %s: both are set; keep one", name, name+fileSuffix)
		case text != "":
			return Secret{name, func() (string, error) { return text, nil }}, nil
		case path != "":
			return Secret{name + fileSuffix, func() (string, error) { return readSecret(name+fileSuffix, path) }}, nil
		}
	}
	return Secret{}, nil
}

func readSecret(name, path string) (string, error) {
	text, err := os.ReadFile(path)
	switch {
	case err != nil && strings.ContainsAny(path, ":=@"): // perhaps the URL itself: not to be shown
		return "", fmt.Errorf("%s: not the path of a file that can be read", name)
	case err != nil:
		return "", fmt.Errorf("%s: %w", name, err)
	case len(strings.TrimSpace(string(text))) == 0:
		return "", fmt.Errorf("%s: %s is empty", name, path)
	}
	return strings.TrimSpace(string(text)), nil
}

// IsURL reports whether a value may be a URL or DSN that went into the wrong variable.
func IsURL(value string) bool {
	return strings.Contains(value, "://") || strings.Contains(value, "password=")
}

// misspelled is a problem for each variable that has the prefix and does not exist. Kubernetes sets variables for each
// service of the namespace; those of a service called pgevict, or pgevict-something, are not misspellings.
func (e env) misspelled() []error {
	var known []string
	for _, v := range Variables() {
		if strings.HasPrefix(v.Name, prefix) {
			known = append(known, v.Name)
		} else {
			known = append(known, prefix+v.Name, prefix+v.Name+fileSuffix)
		}
	}
	link := regexp.MustCompile(`^PGEVICT_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	address := regexp.MustCompile(`^(tcp|udp|sctp)://`)
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(e)) {
		switch {
		case !strings.HasPrefix(name, prefix), slices.Contains(known, name), link.MatchString(name), name == prefix+"PORT":
		case strings.HasSuffix(name, "_PORT") && address.MatchString(e[name]):
		default:
			nearest := slices.MinFunc(known, func(a, b string) int {
				return levenshtein.Distance(name, a, nil) - levenshtein.Distance(name, b, nil)
			})
			problems = append(problems, fmt.Errorf("%s: no such variable; did you mean %s?", name, nearest))
		}
	}
	return problems
}

// Variable is a row of the table of variables.
type Variable struct {
	Name, Default, Meaning string
}

// Variables is the table of variables, as the tags of Config have it.
func Variables() []Variable {
	var rows []Variable
	for field := range reflect.TypeFor[Config]().Fields() {
		row := Variable{field.Tag.Get("envconfig"), field.Tag.Get("default"), field.Tag.Get("desc")}
		if field.Type == reflect.TypeFor[Secret]() {
			row.Default = "required"
		}
		rows = append(rows, row)
	}
	return rows
}

// Usage writes the table of variables.
func Usage(w io.Writer) error {
	const width = 60
	var text strings.Builder
	text.WriteString("VARIABLE\tDEFAULT\tMEANING\n")
	for _, v := range Variables() {
		line := v.Name + "\t" + v.Default + "\t"
		room := width
		for word := range strings.FieldsSeq(v.Meaning) {
			if len(word) > room {
				text.WriteString(line + "\n")
				line, room = "\t\t", width
			}
			line += word + " "
			room -= len(word) + 1
		}
		text.WriteString(line + "\n")
	}
	text.WriteString("\nAn empty variable counts as unset. PGEVICT_DATABASE_URL and PGEVICT_REDIS_URL win over the plain names.\n" +
		"Each of the four, with _FILE at its end, names a file that holds the URL, for mounted secrets.\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(table, strings.ReplaceAll(text.String(), " \n", "\n")); err != nil {
		return err
	}
	return table.Flush()
}
