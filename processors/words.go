package processors

// words are what people call the resources.
var words = map[Resource]string{
	CPUUsed:         "CPU used",
	CPURequested:    "CPU reserved",
	CPUMax:          "CPU used or reserved",
	CPUIdle:         "CPU idle",
	MemoryUsed:      "memory used",
	MemoryRequested: "memory reserved",
	MemoryMax:       "memory used or reserved",
	MemoryIdle:      "memory idle",
	EphemeralUsed:   "ephemeral storage used",
	VolumeClaimed:   "volume claimed",
	VolumeUsed:      "volume used",
	NetworkReceive:  "network received",
	NetworkTransmit: "network sent",
	NodeReceive:     "node network received",
	NodeTransmit:    "node network sent",
	NodeHours:       "node",
	Energy:          "energy",
	UsefulHeat:      "useful heat",
}

// Words are what statements and FOCUS files call the resource: "CPU used", "volume
// claimed (fast)"; an Extended one is called by its name. They are "" of what is no
// resource.
func (r Resource) Words() string {
	general, name, named := r.parts()
	if general == extended {
		return name
	}
	text := words[general]
	if text != "" && named {
		text += " (" + name + ")"
	}
	return text
}
