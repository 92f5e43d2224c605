# Stand-ins for the vendor's commands: each notes its call, and makes the files that the real one
# makes. What they are called with is judged afterwards (conftest.py); what is not here is unknown.

set vendor_log [open $::env(VENDOR_LOG) a]

proc vendor_note {name arguments} {
    puts -nonewline $::vendor_log [join [list $name {*}$arguments] \x1f]\x1e
    flush $::vendor_log
}

proc vendor_touch {path} {
    file mkdir [file dirname $path]
    set file [open $path w]
    puts $file "made by a stand-in"
    close $file
}

proc vendor_option {arguments name} {
    lindex $arguments [expr {[lsearch -exact $arguments $name] + 1}]
}

namespace eval ipx {}

foreach {name result} {
    add_files {}
    apply_bd_automation {}
    assign_bd_address {}
    close_project {}
    connect_bd_intf_net net
    connect_bd_net net
    create_bd_design design
    create_project project
    current_fileset sources_1
    current_project project
    generate_target {}
    get_board_parts {}
    get_runs impl_1
    ipx::add_address_block block
    ipx::add_bus_parameter parameter
    ipx::add_memory_map map
    ipx::add_register register
    ipx::add_register_parameter parameter
    ipx::associate_bus_interfaces {}
    ipx::check_integrity {}
    ipx::create_xgui_files {}
    ipx::current_core core
    ipx::get_user_parameters {one two}
    ipx::infer_bus_interface {}
    ipx::remove_user_parameter {}
    ipx::save_core {}
    ipx::update_checksums {}
    make_wrapper system_wrapper.v
    open_run {}
    save_bd_design {}
    set_property {}
    update_compile_order {}
    update_ip_catalog {}
    validate_bd_design {}
    wait_on_run {}
} {
    proc $name args "vendor_note $name \$args; return {$result}"
}

# What names something gives the name back.
foreach name {
    create_bd_cell get_bd_addr_segs get_bd_addr_spaces get_bd_intf_pins get_bd_pins get_files
    ipx::get_bus_interfaces
} {
    proc $name args "vendor_note $name \$args; return \[lindex \$args end\]"
}

proc get_ipdefs args {
    vendor_note get_ipdefs $args
    string map {* 9.9} [lindex $args end]
}

proc get_property {name object} {
    vendor_note get_property [list $name $object]
    switch $name {
        PROGRESS { return $::env(VENDOR_PROGRESS) }
        STATS.WNS { return $::env(VENDOR_SLACK) }
        default { return $object }
    }
}

proc ipx::package_project args {
    vendor_note ipx::package_project $args
    vendor_touch [file join [vendor_option $args -root_dir] component.xml]
}

proc package_xo args {
    vendor_note package_xo $args
    foreach needed [list [vendor_option $args -kernel_xml] \
            [file join [vendor_option $args -ip_directory] component.xml]] {
        if {![file exists $needed]} { error "package_xo: there is no $needed" }
    }
    vendor_touch [vendor_option $args -xo_path]
}

proc launch_runs args {
    vendor_note launch_runs $args
    vendor_touch project/system.runs/impl_1/system_wrapper.bit
    vendor_touch project/system.gen/sources_1/bd/system/hw_handoff/system.hwh
}

proc write_hw_platform args {
    vendor_note write_hw_platform $args
    vendor_touch [vendor_option $args -file]
}

foreach {name report} {
    report_timing_summary timing report_utilization utilisation report_power power
} {
    proc $name args "
        vendor_note $name \$args
        file copy -force \[file join \$::env(VENDOR_REPORTS) $report.rpt\] \
            \[vendor_option \$args -file\]
    "
}
