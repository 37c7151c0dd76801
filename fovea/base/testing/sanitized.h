// Whether a sanitizer watches this build, which is then many times slower.
#pragma once

namespace fovea {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

// A test that goes through very many cases of one kind goes through every so-manieth there; through all elsewhere.
constexpr int every(int step_where_sanitized) { return kSanitized ? step_where_sanitized : 1; }

}  // namespace fovea
