package fleet

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExclude(t *testing.T) {
	metering := []string{"accumulus"}
	for _, test := range []struct {
		body      string
		namespace string
		want      bool
	}{
		{`{}`, "accumulus", true}, {`{}`, "shop", false},
		{`{"exclude":[]}`, "accumulus", false},
		{`{"exclude":["kube-*"]}`, "kube-system", true}, {`{"exclude":["kube-*"]}`, "accumulus", false},
		{`{"exclude":["kube-*","__metering__"]}`, "accumulus", true}, {`{"exclude":["kube-*","__metering__"]}`, "shop", false},
	} {
		var list PriceList
		if err := json.Unmarshal([]byte(test.body), &list); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(list) // an empty list is another thing than none
		if err == nil {
			list = PriceList{}
			err = json.Unmarshal(text, &list)
		}
		if got := list.Excludes(test.namespace, metering); got != test.want || err != nil {
			t.Errorf("%s excludes %s: %v, %v", test.body, test.namespace, got, err)
		}
	}
}

func TestPricesThatAListCanHave(t *testing.T) {
	list := func(rates []Rate, exclude ...string) []Object {
		return []Object{NewObject("p", PriceList{Currency: "EUR", Rates: rates, Exclude: exclude})}
	}
	good := []Rate{{Resource: "volume_claimed", Price: "1"}, {Resource: "volume_claimed:fast", Price: "2", Unit: "GiB-hour"},
		{Resource: "extended:nvidia.com/gpu", Unit: "hour", Price: "3"}, {Resource: "ephemeral_used", Price: "1"}, {Resource: "node_network_transmit", Unit: "GB", Price: "1"}}
	if err := Validate(list(good, "kube-*", MeteringNamespace), nil); err != nil {
		t.Error(err)
	}
	if price, ok := list(good)[0].Spec.(PriceList).Price("volume_claimed:slow"); !ok || price != "1" {
		t.Errorf("a class without a price: %s, %v; want that of all classes", price, ok)
	}
	if _, ok := list(good)[0].Spec.(PriceList).Price("extended:amd.com/gpu"); ok {
		t.Error("a device that is not in the list has a price")
	}
	for _, rate := range []Rate{{Resource: "volume_claimed:", Price: "1"}, {Resource: "extended:", Price: "1"}, {Resource: "cpu_used:fast", Price: "1"}, {Resource: "extended:x", Unit: "GB", Price: "1"}} {
		if err := Validate(list([]Rate{rate}), nil); err == nil {
			t.Errorf("%+v is taken", rate)
		}
	}
	for resource, fine := range map[string]bool{
		"extended:ephemeral-storage": true, "extended:hugepages-2Mi": true, "extended:example.com/Card_1.x": true, "volume_claimed:local-path": true, "volume_used:a.b": true,
		"extended:gpu": false, "extended:cpu": false, "extended:/gpu": false, "extended:a/b/c": false, "extended:nvidia.com/": false, "extended:" + strings.Repeat("a", 250) + "/gpu": false,
		"volume_claimed:Fast": false, "volume_claimed:a b": false, "volume_used:*": false, "volume_used:a:b": false, "volume_claimed:\x00": false,
	} {
		if err := Validate(list([]Rate{{Resource: resource, Price: "1"}}), nil); (err == nil) != fine {
			t.Errorf("a price of %.40q: %v", resource, err)
		}
	}
	if err := Validate(list(good, "*-[a-c]?", "[^k]*", `a\*`, "__system__"), nil); err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"", "[a", "a b", "Shop", "\x00", "shop,data"} {
		if err := Validate(list(good, pattern), nil); err == nil {
			t.Errorf("namespace %q is taken", pattern)
		}
	}
}
