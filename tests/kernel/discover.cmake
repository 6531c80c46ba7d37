# SPDX-License-Identifier: MIT
#
# Writes one CTest entry for each case of PROGRAM and each of KERNELS to OUTPUT.
execute_process(COMMAND "${PROGRAM}" --gtest_list_tests
    OUTPUT_VARIABLE listing RESULT_VARIABLE status TIMEOUT 600)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} --gtest_list_tests: ${status}\n${listing}")
endif()

# "Suite.", then its cases, indented; a comment may follow either. Characters that mean something
# in a CMake list only occur in the comments.
string(REGEX REPLACE " *#[^\n]*" "" listing "${listing}")
string(REPLACE "\n" ";" lines "${listing}")
set(suite "")
set(script "")
foreach(line IN LISTS lines)
    if(line MATCHES "^([^ ]+\\.)$")
        set(suite "${CMAKE_MATCH_1}")
    elseif(line MATCHES "^  ([^ ]+)$")
        set(case "${suite}${CMAKE_MATCH_1}")
        if(case MATCHES "DISABLED_")
            continue()
        endif()
        foreach(kernel IN LISTS KERNELS)
            set(name "kernel-${kernel}.${case}")
            string(APPEND script
                "add_test([==[${name}]==] [==[${CASE}]==]\n"
                "    [==[${LOGS}/${kernel}.log]==] [==[${case}]==])\n"
                "set_tests_properties([==[${name}]==] PROPERTIES LABELS kernel TIMEOUT 600\n"
                "    SKIP_RETURN_CODE 77 FIXTURES_REQUIRED [==[boot-${kernel}]==])\n")
        endforeach()
    endif()
endforeach()
file(WRITE "${OUTPUT}" "${script}")
