#!/bin/busybox sh
printf 'Content-Type: text/plain\r\n\r\n'
echo "${GREETING:-Hello} from ${DEIS_APP:-nowhere} ${WORKFLOW_RELEASE:-}"
