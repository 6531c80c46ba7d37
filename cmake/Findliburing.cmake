# SPDX-License-Identifier: MIT
#
# Finds liburing and gives it as liburing::liburing. No pkg-config needed.
#
#   liburing_FOUND, liburing_VERSION
#   liburing_INCLUDE_DIR, liburing_LIBRARY    in the cache, to point it elsewhere
#
# The header says its version since 2.4. Before that, 2.3 is told by a function that it brought;
# what lacks that too is older than anything of use here and is reported as 2.2.

find_path(liburing_INCLUDE_DIR NAMES liburing.h DOC "directory of liburing.h")
find_library(liburing_LIBRARY NAMES uring DOC "liburing itself")
mark_as_advanced(liburing_INCLUDE_DIR liburing_LIBRARY)

unset(liburing_VERSION)
if(liburing_INCLUDE_DIR)
    set(_liburing_header "${liburing_INCLUDE_DIR}/liburing/io_uring_version.h")
    if(EXISTS "${_liburing_header}")
        file(STRINGS "${_liburing_header}" _liburing_lines REGEX "IO_URING_VERSION_(MAJOR|MINOR)")
        if(_liburing_lines MATCHES "VERSION_MAJOR[ \t]+([0-9]+)")
            set(liburing_VERSION "${CMAKE_MATCH_1}")
        endif()
        if(_liburing_lines MATCHES "VERSION_MINOR[ \t]+([0-9]+)")
            string(APPEND liburing_VERSION ".${CMAKE_MATCH_1}")
        endif()
    else()
        file(STRINGS "${liburing_INCLUDE_DIR}/liburing.h" _liburing_lines
            REGEX "io_uring_submit_and_get_events")
        if(_liburing_lines)
            set(liburing_VERSION 2.3)
        else()
            set(liburing_VERSION 2.2)
        endif()
    endif()
    unset(_liburing_header)
    unset(_liburing_lines)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(liburing
    REQUIRED_VARS liburing_LIBRARY liburing_INCLUDE_DIR
    VERSION_VAR liburing_VERSION
    REASON_FAILURE_MESSAGE "install liburing-dev (Debian, Ubuntu) or liburing-devel (Fedora)")

if(liburing_FOUND AND NOT TARGET liburing::liburing)
    add_library(liburing::liburing UNKNOWN IMPORTED)
    set_target_properties(liburing::liburing PROPERTIES
        IMPORTED_LOCATION "${liburing_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${liburing_INCLUDE_DIR}")
endif()
