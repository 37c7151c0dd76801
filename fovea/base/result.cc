#include "fovea/base/result.h"

namespace fovea {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailed: return 1;
    case ErrorCode::kUsage: return 2;
    case ErrorCode::kData:
    case ErrorCode::kLimit:
    case ErrorCode::kUnsupported: return 65;
    case ErrorCode::kNotFound: return 66;
    case ErrorCode::kUnavailable: return 69;
    case ErrorCode::kInternal: return 70;
    case ErrorCode::kOutOfMemory: return 71;
    case ErrorCode::kIo: return 74;
    case ErrorCode::kPermission: return 77;
    case ErrorCode::kCancelled: return 130;
    case ErrorCode::kClosedPipe: return 0;
  }
  return 70;
}

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailed: return "failed";
    case ErrorCode::kUsage: return "usage";
    case ErrorCode::kData: return "data";
    case ErrorCode::kLimit: return "limit";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kNotFound: return "not_found";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kInternal: return "internal";
    case ErrorCode::kOutOfMemory: return "out_of_memory";
    case ErrorCode::kIo: return "io";
    case ErrorCode::kPermission: return "permission";
    case ErrorCode::kCancelled: return "cancelled";
    case ErrorCode::kClosedPipe: return "closed_pipe";
  }
  return "internal";
}

}  // namespace fovea
