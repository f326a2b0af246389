// What a version's signatures and devices have done, as JSON.
#ifndef SERVING_REST_STATISTICS_JSON_H_
#define SERVING_REST_STATISTICS_JSON_H_

#include <string>

#include "serving/monitoring/engine_metrics.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// {"model_spec": {"name": "m", "version": "1"},
//  "signatures": [{"signature": "serving_default", "engines": ["..."], "calls": 7, ...,
//                  "call_time_us": {...},
//                  "batching": {"batches": 3, ..., "batch_rows": {...}, "queue_time_us": {...}}}],
//  "engines": [{"engine": "...", "calls": 7, ..., "queued": 0, "fill_percent": {...}, ...}]}
// with the fields of SignatureStatistics and EngineStatistics. A distribution is {"count": 7, "mean": 62.5,
// "p50": ..., "p90": ..., "p99": ..., "max": ..., "histogram": [[up to, count], ...]}: how many values lie
// above the limit before and up to this one, where there are any. "batching" is there for signatures that the
// server has batched, "engines" are those of the version.
std::string ModelStatisticsJson(const Servable& servable, const Engines& engines);

}  // namespace tfipu::serving

#endif  // SERVING_REST_STATISTICS_JSON_H_
